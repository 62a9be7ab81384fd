"use strict";
// The page of a build that goes on: steps as they begin and end, and what they say. Every text is set as
// text: nothing that a build says becomes markup, which the page's policy (trusted types) holds, too.
// A page that nobody sees lets go of its connection, of which a browser has six for one server.
(() => {
  const most = 65536;
  const place = document.getElementById("live");
  if (place === null) return;
  const line = document.getElementById("now");
  const steps = new Map();
  let source = null;
  let ahead = 0; // of the build's time before the page's

  const now = () => performance.now() / 1000 + ahead;

  function shown(step) {
    if (step.began === null) return step.state;
    if (step.state === "cached") return "cached";
    const seconds = Math.max(0, (step.ended === null ? now() : step.ended) - step.began);
    return `${step.state} ${seconds.toFixed(1)} s`;
  }

  function rowOf(number) {
    let row = steps.get(number);
    if (row === undefined) {
      const box = document.createElement("details");
      const title = document.createElement("summary");
      const name = document.createElement("span");
      const state = document.createElement("span");
      const output = document.createElement("pre");
      output.tabIndex = 0;
      title.append(name, " ", state);
      box.append(title, output);
      place.append(box);
      row = { box, name, state, output, length: 0, step: null };
      steps.set(number, row);
    }
    return row;
  }

  function take(message) {
    ahead = message.now - performance.now() / 1000;
    for (const step of message.steps) {
      const row = rowOf(step.number);
      const was = row.step === null ? "" : row.step.state;
      row.step = step;
      row.name.textContent = `#${step.number} ${step.name}`;
      row.state.className = `state ${step.state}`;
      if (step.state !== was) row.box.open = step.state === "running" || step.state === "failed";
    }
    for (const [number, text] of Object.entries(message.said)) {
      const row = rowOf(Number(number));
      const output = row.output;
      const follows = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
      row.length += text.length;
      if (row.length > 2 * most) {
        output.textContent = (output.textContent + text).slice(-most);
        row.length = most;
      } else {
        output.append(text);
      }
      if (follows) output.scrollTop = output.scrollHeight;
    }
    tick();
  }

  function tick() {
    const running = [];
    for (const row of steps.values()) {
      if (row.step === null) continue;
      row.state.textContent = shown(row.step);
      if (row.step.state === "running") running.push(`#${row.step.number}`);
    }
    const text = running.length ? `running: ${running.join(", ")}` : "waiting";
    if (line.textContent !== text) line.textContent = text;
  }

  function listen() {
    if (source !== null || document.hidden) return;
    place.replaceChildren();
    steps.clear();
    source = new EventSource(`${location.pathname}/events`);
    source.onmessage = (event) => take(JSON.parse(event.data));
    source.addEventListener("end", () => {
      source.close();
      location.reload();
    });
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) line.textContent = "the connection is lost: load the page again";
    };
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return listen();
    if (source !== null) source.close();
    source = null;
  });
  setInterval(tick, 500);
  listen();
})();
