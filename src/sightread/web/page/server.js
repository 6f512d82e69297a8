// What is asked of the server. It alone is asked.

import { $, say } from "./dom.js";

async function ask(name, question, signal) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`/api/${name}`, { method: "POST", headers, body: JSON.stringify(question), signal });
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({}));
  throw new Error(error ?? `the server answered ${answer.status}`);
}

// Of several questions of a name only the last is answered.
const asking = {};
export async function latest(name, question, use, { fail = say, place = $("main"), as = "json" } = {}) {
  asking[name]?.abort();
  const mine = (asking[name] = new AbortController());
  place.classList.add("busy");
  let answer;
  try {
    answer = await (await ask(name, question, mine.signal))[as]();
  } catch (error) {
    if (asking[name] !== mine) return;
    fail(error instanceof TypeError ? "the server does not answer; is it still running?" : error.message);
  }
  if (asking[name] !== mine) return;
  place.classList.remove("busy");
  if (answer !== undefined) use(answer);
}

export function forget(name) {
  asking[name]?.abort();
  asking[name] = null;
  $("main").classList.remove("busy");
  return [];
}
