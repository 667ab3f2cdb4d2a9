"use strict";
for (const figure of document.querySelectorAll("figure.soundtrack")) {
  const { duration, cells, scores } = JSON.parse(
    figure.querySelector("script.scores").textContent,
  );
  const audio = figure.querySelector("audio");
  const clock = figure.querySelector(".clock b");
  const slider = figure.querySelector("[role=slider]");
  const names = [...figure.querySelectorAll(".name")];
  const lanes = names.map((name) => name.closest(".lane"));
  const levels = lanes.map((lane) => lane.querySelector(".level"));
  let position = 0; // seconds
  let shownCell = null;

  const clockText = (seconds) => {
    const tenths = Math.floor(seconds * 10 + 1e-6);
    const minutes = Math.floor(tenths / 600);
    return `${minutes}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
  };
  const score = (value) => (value >= 0.005 ? value.toFixed(2) : "<0.01");
  const cellAt = (seconds) =>
    cells.findLastIndex(([start, end]) => start <= seconds && seconds < end);

  // Show the cursor, the time, and the scores at the cursor.
  const show = () => {
    figure.classList.add("moved");
    figure.style.setProperty("--cursor", position / duration);
    if (clock) clock.textContent = clockText(position);
    const cell = cellAt(position);
    if (cell === shownCell) return;
    shownCell = cell;
    const now = scores.map((row) => (cell < 0 ? null : row[cell]));
    const best = Math.max(...now);
    now.forEach((value, i) => {
      levels[i].textContent = value === null ? "–" : score(value);
      lanes[i].classList.toggle("current", value !== null && value > 0 && value === best);
    });
    const leader = names[now.indexOf(best)]?.querySelector("bdi").textContent;
    slider.setAttribute("aria-valuenow", position.toFixed(2));
    slider.setAttribute("aria-valuetext", cell < 0
      ? `${position.toFixed(1)} seconds`
      : `${position.toFixed(1)} seconds, ${leader} ${score(best)}`);
  };

  const seek = (seconds) => {
    position = Math.min(Math.max(seconds, 0), duration);
    if (audio) audio.currentTime = Math.min(position, audio.duration || position);
    show();
  };

  const follow = () => {
    position = Math.min(audio.currentTime, duration);
    show();
    if (!audio.paused) requestAnimationFrame(follow);
  };
  const toggle = () => (audio.paused ? audio.play() : audio.pause());

  if (audio) {
    const button = figure.querySelector(".play");
    button.addEventListener("click", toggle);
    audio.addEventListener("play", () => {
      // Only one sound plays at a time.
      for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
      figure.classList.add("playing");
      button.setAttribute("aria-label", "Pause");
      follow();
    });
    for (const event of ["pause", "ended"]) {
      audio.addEventListener(event, () => {
        figure.classList.remove("playing");
        button.setAttribute("aria-label", "Play");
      });
    }
  }

  for (const track of figure.querySelectorAll(".track")) {
    const seekTo = (event) => {
      const box = track.getBoundingClientRect();
      seek(((event.clientX - box.left) / box.width) * duration);
    };
    track.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      track.setPointerCapture(event.pointerId);
      seekTo(event);
    });
    track.addEventListener("pointermove", (event) => {
      if (track.hasPointerCapture(event.pointerId)) seekTo(event);
    });
  }

  for (const name of names) {
    name.addEventListener("click", () => {
      seek(Number(name.dataset.seconds));
      audio?.play();
    });
  }

  // A step is a cell, so that each key press shows other scores.
  const step = (count) => {
    const now = cells.findLastIndex(([start]) => start <= position + 1e-6);
    const next = cells[Math.min(Math.max(now + count, 0), cells.length - 1)];
    seek(next ? next[0] : position + count);
  };
  const KEYS = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    Home: () => seek(0),
    End: () => seek(duration),
    " ": () => audio && toggle(),
  };
  figure.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && event.target.tagName === "BUTTON") return;
    event.preventDefault();
    KEYS[event.key]();
  });
}
