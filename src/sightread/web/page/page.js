// The page: its tabs, what is typed and clicked.

import { $, all, chips, h, say, soon } from "./dom.js";
import { close } from "./detail.js";
import { askPictures } from "./pictures.js";
import { askMore, askProbes } from "./probes.js";
import { TABS, about, read, state, write } from "./state.js";
import { askTokens, download, hideLow } from "./tokens.js";

function show() {
  for (const tab of TABS) {
    $(`#${tab}`).hidden = tab !== state.tab;
    $(`[data-tab=${tab}]`).setAttribute("aria-current", tab === state.tab ? "page" : "false");
  }
  $("#text").value = state.text;
  $("#query").value = state.query;
  if (state.of === null) $("#detail").hidden = true;
  const names = about.vokenizers.map((one) => one.name);
  $("#switch").hidden = $("#searched").hidden = names.length < 2;
  chips($("#switch"), "checkbox", names, state.on, (on) => {
    state.on = on;
    if (!on.includes(state.of)) close();
    write();
    askTokens();
  });
  chips($("#searched"), "radio", names, [state.by], ([by]) => {
    state.by = by;
    close();
    askPictures();
  });
  ({ tokens: askTokens, pictures: askPictures, probes: askProbes })[state.tab]();
}

function typed(key, work) {
  const area = $(`#${key}`);
  area.maxLength = about.maxText;
  area.addEventListener("input", () => {
    state[key] = area.value;
    write();
    soon(work);
  });
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // a sentence is one line
    soon(work);
  });
}

function listen() {
  typed("text", askTokens);
  typed("query", askPictures);
  $("#least").addEventListener("input", () => {
    state.least = Number($("#least").value);
    write();
    hideLow();
  });
  for (const id of ["first", "second", "probe"]) {
    $(`#${id}`).addEventListener("change", () => {
      state[id] = $(`#${id}`).value;
      write();
      askProbes();
    });
  }
  $("#more").addEventListener("click", () => askMore());
  $("#link").addEventListener("click", async () => {
    await navigator.clipboard.writeText(location.href).then(() => say("the link is copied"),
      () => say("the link stands in the address bar"));
  });
  for (const kind of ["png", "html"]) $(`#${kind}`).addEventListener("click", () => download(kind));
  for (const button of all("[data-tab]")) {
    button.addEventListener("click", () => {
      Object.assign(state, { tab: button.dataset.tab, of: null, token: null, row: null });
      write("pushState");
      show();
    });
  }
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !$("#detail").hidden) close();
  });
  addEventListener("popstate", () => {
    read();
    show();
  });
}

function offerExamples() {
  $("#examples").replaceChildren(...about.examples.map((text) => {
    const button = h("button", { type: "button" }, text);
    button.addEventListener("click", () => {
      state.text = $("#text").value = text;
      write();
      askTokens();
    });
    return button;
  }));
}

try {
  Object.assign(about, await (await fetch("/api/about")).json());
  read();
  offerExamples();
  listen();
  show();
} catch (error) {
  say(`the server does not answer (${error.message}); is it still running?`);
}
