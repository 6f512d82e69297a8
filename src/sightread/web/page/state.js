// All that is seen follows from the address, whose part behind the # never leaves the browser.

export const TABS = ["tokens", "pictures", "probes"];

export const state = {}; // what `read` takes from the address and `write` puts there
export const about = {}; // what the server has

export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const names = about.vokenizers.map((one) => one.name);
  const encoders = Object.keys(about.probes);
  const one = (key, among, otherwise = null) => (among.includes(given.get(key)) ? given.get(key) : otherwise);
  const number = (key) => (/^\d{1,9}$/.test(given.get(key)) ? Number(given.get(key)) : null);
  const text = (key, otherwise) => (given.get(key) ?? otherwise).slice(0, about.maxText);
  const on = names.filter((name) => given.getAll("on").includes(name));
  Object.assign(state, {
    tab: one("tab", TABS, "tokens"),
    text: text("text", about.examples[0]),
    on: on.length ? on : names.slice(0, 2),
    least: Math.min(Math.max(Number(given.get("least")) || 0, 0), 1),
    query: text("query", about.examples[0]),
    by: one("by", names, names[0]),
    of: one("of", names),
    token: number("token"),
    row: number("row"),
    evidence: given.has("evidence"),
    first: one("first", encoders, encoders[0]),
    second: one("second", encoders, encoders[1]),
    probe: given.get("probe"),
    kind: one("kind", ["all", "first", "second", "equal"], "all"),
  });
}

export function write(again = "replaceState") {
  const { tab, text, on, least, query, by, of, token, row, evidence, first, second, probe, kind } = state;
  const kept = {
    tokens: { text, on, least: least || null, of, token, row, evidence: evidence ? "1" : null },
    pictures: { tab, query, by, of, row },
    probes: { tab, first, second, probe, kind },
  }[tab];
  const pairs = Object.entries(kept).flatMap(([key, value]) => [value].flat().map((one) => [key, one]));
  const address = new URLSearchParams(pairs.filter(([, value]) => value !== null && value !== undefined));
  history[again](null, "", `#${address}`);
}
