// Elements, numbers in words, and what is said aloud.

const TYPING = 200; // milliseconds until what is typed is asked for

export const $ = (selector) => document.querySelector(selector);
export const all = (selector) => document.querySelectorAll(selector);
export const fixed = (number, digits = 2) => number.toFixed(digits).replace("-", "−");
export const counted = (number) => number.toLocaleString("en");
export const faint = (...words) => h("p", { className: "faint" }, ...words);

export function h(tag, { aria = {}, data = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  Object.assign(element.dataset, data);
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}

export function say(words, aloud = true) { // to all, or to those alone who listen to the page
  $("#status").className = aloud ? "" : "quiet";
  $("#status").textContent = words;
  clearTimeout(say.until);
  if (aloud) say.until = setTimeout(() => say("", false), 5000);
}

export function soon(work) {
  clearTimeout(soon.until);
  soon.until = setTimeout(work, TYPING);
}

export function chips(fieldset, type, values, chosen, change, labels = {}) {
  const boxes = values.map((value) => {
    const input = h("input", { type, name: fieldset.id, value, checked: chosen.includes(value) });
    input.addEventListener("change", () => {
      const checked = [...fieldset.querySelectorAll(":checked")].map((one) => one.value);
      if (checked.length) change(checked);
      else input.checked = true; // one at least
    });
    return h("label", { className: "chip" }, input, h("span", {}, labels[value] ?? value));
  });
  fieldset.replaceChildren(fieldset.querySelector("legend"), ...boxes);
}
