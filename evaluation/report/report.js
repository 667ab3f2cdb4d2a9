"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = (name, text = "", className = "") => {
    const node = document.createElement(name);
    node.textContent = text;
    if (className) node.className = className;
    return node;
  };

  // The table of classes.
  const NUMERIC = ["prior", "positives", "negatives", "auc", "d_prime", "ap"];
  const classes = data.rows.map((row) => {
    const entry = Object.fromEntries(data.columns.map((column, i) => [column, row[i]]));
    // JSON has no infinities; they come as the words that Number() understands.
    for (const key of NUMERIC) entry[key] = entry[key] === null ? null : Number(entry[key]);
    const videos = entry.positives + entry.negatives;
    entry.prevalence = videos ? entry.positives / videos : 0;
    entry.folded = String(entry.name).normalize("NFKC").toLowerCase();
    return entry;
  });

  const figure = (value) => {
    if (value === null) return "–";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    // A rare class must not read as zero.
    const small = value > 0 && value < 0.001;
    return (small ? value.toPrecision(2) : value.toFixed(3)).replace("-", "−");
  };
  const count = (value) => value.toLocaleString("en");
  const twoDigits = { minimumSignificantDigits: 2, maximumSignificantDigits: 2 };
  const percents = new Intl.NumberFormat("en", { style: "percent", ...twoDigits });
  const percent = (value) => (value === null ? "–" : percents.format(value));

  const tableRow = (entry) => {
    const row = element("tr");
    const name = element("th");
    name.scope = "row";
    name.append(element("bdi", entry.name));
    if (entry.label_id !== entry.name) name.append(element("small", entry.label_id));
    const ap = element("td", "", "ap");
    if (entry.ap !== null) {
      const bar = element("span", "", "bar");
      bar.style.setProperty("--value", entry.ap);
      bar.style.setProperty("--prior", entry.prevalence);
      ap.append(bar);
    }
    ap.append(figure(entry.ap));
    row.append(
      name,
      ap,
      element("td", figure(entry.auc)),
      element("td", figure(entry.d_prime)),
      element("td", percent(entry.prior)),
      element("td", count(entry.positives)),
      element("td", count(entry.negatives)),
      element("td", entry.label),
    );
    return row;
  };

  const body = document.querySelector("#per-class tbody");
  const headers = [...document.querySelectorAll("#per-class thead th")];
  const filter = document.getElementById("filter");
  const more = document.getElementById("more");
  const FIRST_ROWS = 50;
  const MORE_ROWS = 200;
  const collator = new Intl.Collator(undefined, { numeric: true });
  let found = [];

  // Only rows that were asked for exist, so that 30,000 classes sort as quickly as 20.
  const show = (rows) => {
    const shown = body.rows.length;
    const next = document.createDocumentFragment();
    for (const entry of found.slice(shown, shown + rows)) next.append(tableRow(entry));
    body.append(next);
    more.hidden = body.rows.length >= found.length;
    document.getElementById("more-all").textContent = `Show all ${count(found.length)}`;
    document.getElementById("count").textContent =
      `${count(body.rows.length)} of ${count(found.length)} ` +
      (found.length < classes.length ? `found among ${count(classes.length)}` : "classes");
  };

  const refresh = () => {
    const header = headers.find((candidate) => candidate.hasAttribute("aria-sort"));
    const key = header.dataset.key;
    const sign = header.getAttribute("aria-sort") === "ascending" ? 1 : -1;
    const order = key === "name"
      ? (a, b) => sign * collator.compare(a.name, b.name)
      // Undefined values come last in both directions; infinities must not be subtracted.
      : (a, b) => (a[key] === null) - (b[key] === null)
          || sign * ((a[key] > b[key]) - (a[key] < b[key]));
    const wanted = filter.value.trim().normalize("NFKC").toLowerCase();
    found = classes
      .filter((entry) => entry.folded.includes(wanted))
      .sort((a, b) => order(a, b) || a.label - b.label);
    body.replaceChildren();
    show(FIRST_ROWS);
    if (!found.length) {
      const none = element("td", "No class has this in its name.", "none");
      none.colSpan = headers.length;
      const row = element("tr");
      row.append(none);
      body.append(row);
    }
  };

  for (const header of headers) {
    header.firstElementChild.addEventListener("click", () => {
      const first = ["name", "label"].includes(header.dataset.key) ? "ascending" : "descending";
      const turned = first === "ascending" ? "descending" : "ascending";
      const sort = header.getAttribute("aria-sort") === first ? turned : first;
      for (const other of headers) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", sort);
      refresh();
    });
  }
  filter.addEventListener("input", refresh);
  document.getElementById("more-some").addEventListener("click", () => show(MORE_ROWS));
  document.getElementById("more-all").addEventListener("click", () => show(found.length));
  refresh();

  // The scores of one soundtrack, under the pointer or the arrow keys.
  const plot = document.getElementById("plot");
  const soundtrack = data.soundtrack;
  if (plot && soundtrack.rows.length) {
    const readout = document.getElementById("readout");
    const tracks = [...plot.querySelectorAll(".track[data-row]")];
    const seconds = (value) => value.toFixed(2);
    let cell = 0;
    let row = 0;

    const read = (time) => {
      const [start, end] = soundtrack.cells[cell];
      const { name, scores } = soundtrack.rows[row];
      plot.dataset.cursor = "";
      plot.style.setProperty("--cursor", time / soundtrack.duration);
      tracks.forEach((track, i) => track.classList.toggle("current", i === row));
      readout.replaceChildren(
        element("b", scores[cell].toFixed(3)), " ", element("bdi", name),
        `, ${seconds(start)} to ${seconds(end)} s`,
      );
    };

    plot.addEventListener("pointermove", (event) => {
      const track = event.target.closest(".track");
      if (!track) return;
      const box = track.getBoundingClientRect();
      const time = ((event.clientX - box.left) / box.width) * soundtrack.duration;
      const under = soundtrack.cells.findLastIndex(([start, end]) => start <= time && time < end);
      if (under < 0) return;
      cell = under;
      // On the spectrogram, the label that scores highest at this moment answers.
      const now = soundtrack.rows.map(({ scores }) => scores[cell]);
      row = "row" in track.dataset ? Number(track.dataset.row) : now.indexOf(Math.max(...now));
      read(time);
    });

    const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    plot.addEventListener("keydown", (event) => {
      if (!(event.key in STEPS)) return;
      event.preventDefault();
      const [cells, rows] = STEPS[event.key];
      cell = Math.min(Math.max(cell + cells, 0), soundtrack.cells.length - 1);
      row = Math.min(Math.max(row + rows, 0), soundtrack.rows.length - 1);
      const [start, end] = soundtrack.cells[cell];
      read((start + end) / 2);
    });
  }

  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
