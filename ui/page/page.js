// A node, live: asks /data once a second, keeps what it was a minute back, and draws.
//
//   location.hash ─ token ─▶ look() ─▶ rates from two looks ─▶ draw(): summary, conditions, map, tables
//
// Text of the node enters the page as text (textContent), never as markup.
"use strict";

const PERIOD_MS = 1000;
const KEPT_MS = 60000;
const MOST_ROWS = 200;
const STATES = {
  reached: ["good", "reached"],
  mute: ["mute", "answers no probes"],
  unknown: ["mute", "not known yet"],
  black_hole: ["warn", "large packets vanish"],
  not_heard: ["bad", "what is sent there is lost"],
  silent: ["bad", "silent"],
};

const $ = (id) => document.getElementById(id);
const token = location.hash.slice(1);
let looks = [];
let paused = false;
let failing = null;
let chosen = null;
const sorted = { peers: ["state", -1], pods: ["name", 1], drops: ["rate", -1] };

// ---- numbers for people

function figures(n, units, step) {
  let unit = 0;
  while (n >= 999.5 && unit + 1 < units.length) {
    n /= step;
    unit += 1;
  }
  const digits = n >= 99.95 || (unit === 0 && Number.isInteger(n)) ? 0 : n >= 9.995 ? 1 : 2;
  return n.toFixed(digits) + " " + units[unit];
}
const amount = (n) => (n < 10000 ? String(Math.round(n)) : figures(n / 1000, ["k", "M", "G", "T"], 1000));
const perSecond = (n) => (n > 0 && n < 10 ? n.toFixed(1) : amount(n)) + "/s";
const bits = (bytes) => figures(bytes * 8, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"], 1000);
function micros(us) {
  if (us === undefined) return "";
  return us < 1000 ? us + " µs" : (us / 1000).toFixed(us < 10000 ? 2 : 1) + " ms";
}
function time(seconds) {
  const [s, m, h, d] = [1, 60, 3600, 86400];
  if (seconds < m) return Math.round(seconds) + " s";
  if (seconds < h) return Math.floor(seconds / m) + " min";
  if (seconds < 2 * d) return Math.floor(seconds / h) + " h";
  return Math.floor(seconds / d) + " days";
}

// ---- what changed between two looks

// Of a counter that has become less (the agent was started again) what it has now.
const grown = (now, before) => (before === undefined || now < before ? now : now - before);

function rates(now, before, seconds) {
  const rate = (a, b) => (before && seconds > 0 ? grown(a, b) / seconds : 0);
  const pods = new Map((before ? before.pods : []).map((pod) => [pod.name, pod]));
  for (const pod of now.pods) {
    const was = pods.get(pod.name);
    pod.dropped = pod.drops.reduce((sum, drop) => sum + drop.count, 0);
    pod.rate = {
      from: was ? rate(pod.from_pod.bytes, was.from_pod.bytes) : 0,
      to: was ? rate(pod.to_pod.bytes, was.to_pod.bytes) : 0,
      packets: was
        ? rate(pod.from_pod.packets, was.from_pod.packets) + rate(pod.to_pod.packets, was.to_pod.packets)
        : 0,
    };
  }
  const peers = new Map((before ? before.peers : []).map((peer) => [peer.name, peer]));
  const paths = new Map();
  for (const path of now.paths) paths.set(path.peer, [...(paths.get(path.peer) || []), path]);
  for (const peer of now.peers) {
    const was = peers.get(peer.name);
    peer.rate = {
      from: was ? rate(peer.from_peer.bytes, was.from_peer.bytes) : 0,
      to: was ? rate(peer.to_peer.bytes, was.to_peer.bytes) : 0,
    };
    // Of the path that is asked, as that is the one whose MTU was verified; else the smallest.
    const ways = paths.get(peer.name) || [];
    const asked = ways.filter((path) => peer.health && path.dst === peer.health.address);
    peer.mtu = (asked.length ? asked : ways).reduce((least, path) => Math.min(least || path.mtu, path.mtu), undefined);
    peer.state = peer.health ? peer.health.state : "unknown";
  }
  const drops = new Map((before ? before.drops.drops : []).map((drop) => [drop.reason, drop.total]));
  for (const drop of now.drops.drops) {
    drop.total = drop.frames + drop.lost_packets;
    // A reason that was not there before had none.
    drop.rate = rate(drop.total, drops.get(drop.reason) || 0);
  }
  const totals = (look) => look.status.totals;
  now.rate = {
    received: rate(totals(now).received.packets, before && totals(before).received.packets),
    dropped: now.drops.drops.reduce((sum, drop) => sum + drop.rate, 0),
  };
}

// Part of the probes of the last minute that was not answered; none: nobody was asked, or it answers none at all.
function loss(peer) {
  if (peer.state === "mute" || peer.state === "unknown") return undefined;
  const first = looks.find((look) => look.losses.has(peer.name));
  const health = peer.health;
  if (!health) return undefined;
  const [probes, lost] = first && first !== looks.at(-1) ? first.losses.get(peer.name) : [0, 0];
  const [asked, missed] = [grown(health.probes, probes), grown(health.lost, lost)];
  // One is sent now and lost a second later.
  if (asked > 0) return Math.min(1, missed / asked);
  return health.probes > 0 ? health.lost / health.probes : undefined;
}
const percent = (part) => (part === undefined ? "" : (part * 100).toFixed(part > 0 && part < 0.0995 ? 1 : 0) + " %");

// ---- building the page

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function shape(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function matches(...texts) {
  const wanted = $("filter").value.trim().toLowerCase();
  return !wanted || texts.flat(3).some((text) => String(text).toLowerCase().includes(wanted));
}

// columns: [key, title, class, value to sort by, text to show, class of the cell]
function table(id, rows, columns, nothing) {
  const place = $(id);
  const [by, way] = sorted[id] || [];
  const column = columns.find(([key]) => key === by);
  if (column) {
    const value = column[3];
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return (x < y ? -1 : x > y ? 1 : 0) * way;
    });
  }
  const head = element("tr");
  for (const [key, title, kind] of columns) {
    const cell = element("th", undefined, kind);
    if (sorted[id]) {
      const button = element("button", title + (key === by ? (way > 0 ? " ▲" : " ▼") : ""));
      button.type = "button";
      button.dataset.sort = key;
      if (key === by) cell.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      cell.append(button);
    } else {
      cell.textContent = title;
    }
    head.append(cell);
  }
  const body = [head];
  for (const row of rows.slice(0, MOST_ROWS)) {
    const line = element("tr");
    for (const [key, , kind, , text, state] of columns) {
      const cell = element("td", text(row), [kind, state && state(row)].filter(Boolean).join(" "));
      cell.dataset.key = key;
      line.append(cell);
    }
    body.push(line);
  }
  const left = rows.length - MOST_ROWS;
  const say = rows.length === 0 ? nothing : left > 0 ? left + " more: filter, or sort by another column" : "";
  if (say) {
    const line = element("tr");
    const cell = element("td", say, "none");
    cell.colSpan = columns.length;
    line.append(cell);
    body.push(line);
  }
  place.replaceChildren(...body);
}

const worst = Object.keys(STATES);
const stateOf = (peer) => STATES[peer.state] || ["mute", peer.state];
const badness = (peer) => worst.indexOf(peer.state);

function drawSummary(now) {
  const s = now.status;
  $("node").textContent = s.node;
  document.title = s.node + " · ringway";
  const problems = s.conditions.length + (s.not_served || []).length;
  const bad = now.peers.some((peer) => ["bad", "warn"].includes(stateOf(peer)[0]));
  $("state").className = "dot " + (problems ? "bad" : bad ? "warn" : "good");
  $("summary").textContent = [
    "ringway " + s.version,
    "up " + time(s.uptime_s),
    s.workers.length + (s.workers.length === 1 ? " worker" : " workers"),
    "underlay " + s.underlay.interface,
    perSecond(now.rate.received) + " packets",
    perSecond(now.rate.dropped) + " dropped",
  ].join("  ·  ");
}

function drawConditions(now) {
  const all = [
    ...now.status.conditions.map((c) => [c.what, "found: " + c.found + " · wanted: " + c.wanted + " · for " + time(c.since_s), c.why]),
    ...(now.status.not_served || []).map((p) => [p.pod + " is not served", p.why]),
    ...(now.status.sources || []).flatMap((s) =>
      [s.error, ...(s.problems || [])].filter(Boolean).map((text) => ["source " + s.name, text])),
  ];
  $("conditions-section").hidden = all.length === 0;
  $("conditions-count").textContent = all.length;
  $("conditions").replaceChildren(...all.map(([what, ...more]) => {
    const item = element("li");
    item.append(element("b", what), ...more.map((text) => element("div", text)));
    return item;
  }));
}

function drawMap(now, shown) {
  const map = $("map");
  const peers = [...now.peers].sort((a, b) => (a.name < b.name ? -1 : 1));
  const labelled = peers.length <= 24;
  const lines = [];
  // Rings from the inside out, each with room for what stands on it.
  const room = labelled ? 110 : 26;
  let radius = peers.length <= 24 ? Math.max(130, (peers.length * room) / (2 * Math.PI)) : 110;
  let at = 0;
  let outer = radius;
  while (at < peers.length) {
    const here = Math.min(peers.length - at, Math.max(1, Math.floor((2 * Math.PI * radius) / room)));
    for (let i = 0; i < here; i += 1) {
      const peer = peers[at + i];
      // The first to the right, where its text is beside the line.
      const angle = (2 * Math.PI * i) / here;
      const [x, y] = [radius * 1.25 * Math.cos(angle), radius * Math.sin(angle)];
      const [kind, words] = stateOf(peer);
      const classes = ["peer", kind, peer.name === chosen && "chosen", shown.has(peer.name) || "other"];
      const group = shape("g", { class: classes.filter((c) => typeof c === "string").join(" "), tabindex: "0", "data-peer": peer.name });
      const busy = peer.rate.from + peer.rate.to;
      const width = 1.5 + Math.min(6, Math.log10(1 + busy / 1000));
      group.append(shape("line", { x1: 0, y1: 0, x2: x, y2: y, "stroke-width": width.toFixed(1) }));
      group.append(shape("circle", { cx: x, cy: y, r: labelled ? 9 : 6 }));
      const figures = [micros(peer.health && peer.health.round_trip_us), percent(loss(peer)) && percent(loss(peer)) + " loss",
        peer.health && peer.health.verified_mtu ? "MTU " + peer.health.verified_mtu : ""].filter(Boolean).join(" · ") || words;
      group.append(shape("title", {}, peer.name + ": " + words + "\n" + figures));
      if (labelled || peer.name === chosen) {
        // Away from the middle, where the line comes from.
        const [name, below] = y < -1 ? [y - 27, y - 14] : [y + 22, y + 35];
        group.append(shape("text", { x, y: name }, peer.name));
        group.append(shape("text", { x, y: below, class: "dim" }, figures));
      }
      lines.push(group);
    }
    at += here;
    outer = radius;
    radius += labelled ? 90 : 30;
  }
  const self = shape("g", { class: "self" });
  self.append(shape("circle", { cx: 0, cy: 0, r: 14 }), shape("text", { x: 0, y: 30 }, now.status.node));
  if (peers.length === 0) self.append(shape("text", { x: 0, y: 46, class: "dim" }, "no peers"));
  const [w, h] = [Math.max(320, outer * 1.25 + 90), Math.max(240, outer + 50)];
  map.setAttribute("viewBox", [-w, -h, 2 * w, 2 * h].join(" "));
  map.replaceChildren(...lines, self);
}

function drawDetail(now) {
  const place = $("detail");
  const peer = now.peers.find((one) => one.name === chosen);
  if (!peer) {
    place.replaceChildren(element("p", now.peers.length ? "Choose a peer." : "This node has no peers.", "count"));
    return;
  }
  const health = peer.health || {};
  const drops = now.drops.drops.flatMap((drop) => drop.at
    .filter((at) => at.kind === "peer" && at.name === peer.name)
    .map((at) => amount(at.packets) + " " + drop.reason + " (" + at.direction + ")"));
  const facts = [
    ["state", stateOf(peer)[1] + (health.since_s !== undefined ? " for " + time(health.since_s) : "")],
    ["addresses", peer.addresses.join(" ")],
    ["pod networks", peer.pod_cidrs.join(" ")],
    ["round trip", micros(health.round_trip_us) || "not known"],
    ["loss", percent(loss(peer)) || "not known"],
    ["MTU in use", peer.mtu ? peer.mtu + " bytes" : "not known"],
    ["MTU verified", health.verified_mtu ? health.verified_mtu + " bytes" : "not known"],
    ["received", bits(peer.rate.from) + ", " + amount(peer.from_peer.packets) + " packets"],
    ["sent", bits(peer.rate.to) + ", " + amount(peer.to_peer.packets) + " packets"],
    ["drops", drops.join(", ") || "none"],
  ];
  const list = element("dl");
  for (const [name, value] of facts) list.append(element("dt", name), element("dd", value));
  place.replaceChildren(element("b", peer.name), list);
}

function drawTables(now) {
  const peers = now.peers.filter((peer) => matches(peer.name, peer.addresses, peer.pod_cidrs, stateOf(peer)[1]));
  const pods = now.pods.filter((pod) => matches(pod.name, pod.ips, pod.mac, pod.drops.map((drop) => drop.reason)));
  const drops = now.drops.drops.filter((drop) => matches(drop.reason, drop.cause, drop.at.map((at) => at.name)));
  const last = now.last.filter((one) => matches(one.reason, one.name, one.summary)).slice(-20).reverse();
  const count = (shown, all) => (shown.length === all.length ? String(all.length) : shown.length + " of " + all.length);
  $("peers-count").textContent = count(peers, now.peers);
  $("pods-count").textContent = count(pods, now.pods);
  $("drops-count").textContent = count(drops, now.drops.drops);
  drawMap(now, new Set(peers.map((peer) => peer.name)));
  drawDetail(now);
  table("peers", peers, [
    ["name", "peer", "", (p) => p.name, (p) => p.name],
    ["state", "state", "", badness, (p) => stateOf(p)[1], (p) => stateOf(p)[0]],
    ["rtt", "round trip", "number", (p) => (p.health && p.health.round_trip_us) || 0, (p) => micros(p.health && p.health.round_trip_us)],
    ["loss", "loss", "number", (p) => loss(p) || 0, (p) => percent(loss(p)), (p) => (loss(p) > 0.01 ? "bad" : "")],
    ["mtu", "MTU, verified", "number", (p) => p.mtu || 0, (p) => [p.mtu, p.health && p.health.verified_mtu].filter(Boolean).join(", ")],
    ["from", "received", "number", (p) => p.rate.from, (p) => bits(p.rate.from)],
    ["to", "sent", "number", (p) => p.rate.to, (p) => bits(p.rate.to)],
    ["addresses", "addresses", "code", (p) => p.addresses.join(" "), (p) => p.addresses.join(" ")],
  ], now.peers.length ? "no peer matches the filter" : "no peers");
  table("pods", pods, [
    ["name", "pod", "", (p) => p.name, (p) => p.name],
    ["ips", "addresses", "code", (p) => p.ips.join(" "), (p) => p.ips.map((ip) => ip.split("/")[0]).join(" ")],
    ["from", "from the pod", "number", (p) => p.rate.from, (p) => bits(p.rate.from)],
    ["to", "to the pod", "number", (p) => p.rate.to, (p) => bits(p.rate.to)],
    ["packets", "packets", "number", (p) => p.rate.packets, (p) => perSecond(p.rate.packets)],
    ["dropped", "drops", "number", (p) => p.dropped, (p) => amount(p.dropped), (p) => (p.dropped ? "warn" : "")],
    ["why", "by reason", "", (p) => p.dropped, (p) => p.drops.map((d) => amount(d.count) + " " + d.reason).join(", ")],
  ], now.pods.length ? "no pod matches the filter" : "no pods are attached");
  table("drops", drops, [
    ["reason", "reason", "code", (d) => d.reason, (d) => d.reason],
    ["total", "since start", "number", (d) => d.total, (d) => amount(d.total)],
    ["rate", "now", "number", (d) => d.rate, (d) => perSecond(d.rate), (d) => (d.rate > 0 ? "bad" : "")],
    ["at", "where", "", (d) => d.at.length, (d) => d.at.slice(0, 3).map((at) => at.direction + " " + at.name + " " + amount(at.packets)).join(", ") + (d.at.length > 3 ? ", …" : "")],
    ["cause", "what was seen", "remedy", (d) => d.cause, (d) => d.cause],
    ["remedy", "what to do", "remedy", (d) => d.remedy, (d) => d.remedy],
  ], now.drops.drops.length ? "no reason matches the filter" : "nothing was dropped");
  table("last", last, [
    ["ago", "ago", "number", () => 0, (l) => time(Math.max(0, now.time_ms - l.time_ns / 1e6) / 1000)],
    ["reason", "reason", "code", () => 0, (l) => l.reason],
    ["from", "from", "", () => 0, (l) => (l.kind + " " + l.name).trim()],
    ["what", "packet", "code", () => 0, (l) => l.summary],
  ], "none is kept");
}

function draw() {
  const now = looks.at(-1);
  $("trouble").hidden = !failing;
  $("trouble").textContent = failing || "";
  if (now) {
    drawSummary(now);
    drawConditions(now);
    drawTables(now);
  }
  if (failing) $("state").className = "dot bad";
  drawAge();
}

function drawAge() {
  const now = looks.at(-1);
  if (!now) return;
  const age = (Date.now() - now.seen) / 1000;
  $("age").textContent = paused ? "paused" : age < 2.5 ? "live" : time(age) + " old";
}

// ---- asking

async function look() {
  const response = await fetch("/data", { headers: { Authorization: "Bearer " + token }, cache: "no-store" });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  answer.seen = Date.now();
  const before = looks.at(-1);
  rates(answer, before, before ? (answer.time_ms - before.time_ms) / 1000 : 0);
  answer.losses = new Map(answer.peers.filter((p) => p.health).map((p) => [p.name, [p.health.probes, p.health.lost]]));
  looks.push(answer);
  // Of all but the last two only the losses are used.
  looks = looks.filter((one) => answer.time_ms - one.time_ms <= KEPT_MS);
  for (const one of looks.slice(0, -2)) for (const part of ["status", "pods", "peers", "paths", "drops", "last"]) delete one[part];
}

async function follow() {
  if (!paused && !document.hidden) {
    try {
      await look();
      failing = null;
    } catch (error) {
      failing = error instanceof TypeError
        ? "`ringway ui` does not answer: start it again, and open the address that it prints"
        : error.message;
    }
    draw();
  }
  setTimeout(follow, PERIOD_MS);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-sort]");
  const peer = event.target.closest("[data-peer]");
  if (button) {
    const id = button.closest("table").id;
    const [by, way] = sorted[id];
    sorted[id] = [button.dataset.sort, by === button.dataset.sort ? -way : -1];
  } else if (peer) {
    chosen = peer.dataset.peer === chosen ? null : peer.dataset.peer;
  } else {
    return;
  }
  draw();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== $("filter")) {
    event.preventDefault();
    $("filter").focus();
  } else if (event.key === "Escape") {
    $("filter").value = "";
    chosen = null;
    draw();
  } else if (event.key === "Enter" && document.activeElement.dataset.peer) {
    chosen = document.activeElement.dataset.peer;
    draw();
  }
});
$("filter").addEventListener("input", draw);
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").textContent = paused ? "go on" : "pause";
  drawAge();
});
setInterval(drawAge, PERIOD_MS);
follow();
