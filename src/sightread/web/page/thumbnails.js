// Small pictures with their scores, and buttons of them.

import { fixed, h } from "./dom.js";
import { about } from "./state.js";

export const vokenizer = (name) => about.vokenizers.find((one) => one.name === name);
export const source = (name, row, size) => `/pictures/${vokenizer(name).gallery}/${row}/${size}.jpg`;

export function thumbnail(name, picture, alt) {
  const image = h("img", { src: source(name, picture.row, "small"), alt, width: 96, height: 96, loading: "lazy" });
  return [h("span", { className: "frame" }, image), h("span", { className: "score" }, fixed(picture.score))];
}

export function tile(name, picture, click) {
  const aria = { expanded: false, controls: "detail", label: `${picture.id}, score ${fixed(picture.score)}` };
  const button = h("button", { type: "button", aria, data: { row: picture.row } }, thumbnail(name, picture, ""));
  button.addEventListener("click", click);
  return h("li", {}, button);
}
