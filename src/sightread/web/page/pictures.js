// The pictures that are nearest to a sentence.

import { $, say } from "./dom.js";
import { choose, open, shown } from "./detail.js";
import { forget, latest } from "./server.js";
import { state } from "./state.js";
import { tile } from "./thumbnails.js";

export function askPictures() {
  const use = (found) => {
    shown.found = found;
    const tiles = found.map((picture) => tile(state.by, picture, () => choose(state.by, null, picture.row)));
    $("#found").replaceChildren(...tiles);
    $("#found-note").hidden = !found.length;
    say(`${found.length} pictures`, false);
    if (state.of !== null) open();
  };
  if (state.query.trim()) latest("search", { text: state.query, vokenizer: state.by }, use);
  else use(forget("search"));
}
