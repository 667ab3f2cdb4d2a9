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
  const NUMERIC = ["prior", "positives", "negatives", "auc", "auc_low", "auc_high", "d_prime", "ap"];
  const classes = data.rows.map((row) => {
    const entry = Object.fromEntries(data.columns.map((column, i) => [column, row[i]]));
    // JSON has no infinity; it is a string that Number() parses.
    for (const key of NUMERIC) entry[key] = entry[key] === null ? null : Number(entry[key]);
    const videos = entry.positives + entry.negatives;
    entry.prevalence = videos ? entry.positives / videos : 0;
    entry.folded = String(entry.name).normalize("NFKC").toLowerCase();
    return entry;
  });

  const metric = (value) => {
    if (value === null) return "–";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    // Values of rare classes must not be shown as zero.
    const small = value > 0 && value < 0.001;
    return (small ? value.toPrecision(2) : value.toFixed(3)).replace("-", "−");
  };
  const interval = (low, high) => (low === null ? "–" : `${metric(low)} to ${metric(high)}`);
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
    ap.append(metric(entry.ap));
    row.append(
      name,
      ap,
      element("td", metric(entry.auc)),
      element("td", interval(entry.auc_low, entry.auc_high)),
      element("td", metric(entry.d_prime)),
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
  const MAX_ALL_ROWS = 5000; // a browser needs 2 s for the layout; for 30,000 rows, 20 s
  const collator = new Intl.Collator(undefined, { numeric: true });
  let found = [];

  // Only the shown rows exist, so that 30,000 classes sort as quickly as 20.
  const show = (rows) => {
    const shown = body.rows.length;
    const next = document.createDocumentFragment();
    for (const entry of found.slice(shown, shown + rows)) next.append(tableRow(entry));
    body.append(next);
    more.hidden = body.rows.length >= found.length;
    const all = document.getElementById("more-all");
    all.textContent = `Show all ${count(found.length)}`;
    all.hidden = found.length > MAX_ALL_ROWS;
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
      // Undefined values are last in both directions; infinities cannot be subtracted.
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

  // Figure 1: d' of each class against its prior, coloured by AP.
  const canvas = document.getElementById("scatter");
  const tip = document.getElementById("tip");
  const points = classes
    .filter((entry) => entry.d_prime !== null && (entry.prior || entry.prevalence) > 0)
    .map((entry) => ({ entry, prior: Math.log10(entry.prior || entry.prevalence) }))
    .sort((a, b) => a.prior - b.prior);
  const finite = points.map(({ entry }) => entry.d_prime).filter(Number.isFinite);
  const MARGIN = { left: 36, right: 20, top: 30, bottom: 44 };
  let chosen = null;
  let places = []; // [points] of [x, y] in CSS pixels

  const colour = (ap) => {
    const place = Math.min(Math.max(ap, 0), 1) * (data.colours.length - 1);
    return data.colours[Math.round(place)];
  };
  const ticks = (low, high, step) =>
    Array.from({ length: Math.floor((high - low) / step + 1e-9) + 1 }, (_, i) => low + i * step);

  const superscript = (whole) =>
    String(whole).replace("-", "⁻").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);

  const draw = () => {
    const { width, height } = canvas.getBoundingClientRect();
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name).trim();
    pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    if (!points.length) {
      pen.fillStyle = ink("--soft");
      pen.textAlign = "center";
      pen.fillText("No class has a d′ on this set.", width / 2, height / 2);
      return;
    }
    const left = Math.floor(points[0].prior * 2 - 0.2) / 2;
    const right = Math.min(Math.ceil(points.at(-1).prior * 2 + 0.2) / 2, 0);
    const low = Math.floor(finite.reduce((a, b) => Math.min(a, b), 0));
    const high = Math.ceil(finite.reduce((a, b) => Math.max(a, b), 1) + 0.1);
    const perfect = points.some(({ entry }) => entry.d_prime === Infinity);
    const inner = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
    const x = (prior) => MARGIN.left + ((prior - left) / (right - left || 1)) * inner[0];
    const y = (value) => MARGIN.top + ((high - value) / (high - low)) * inner[1];

    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    for (const value of ticks(low, high, 1)) {
      pen.strokeStyle = value === 0 ? ink("--soft") : ink("--line");
      pen.beginPath();
      pen.moveTo(MARGIN.left, Math.round(y(value)) + 0.5);
      pen.lineTo(width - MARGIN.right, Math.round(y(value)) + 0.5);
      pen.stroke();
      pen.fillStyle = ink("--soft");
      pen.textAlign = "right";
      const text = perfect && value === high ? "∞" : String(value).replace("-", "−");
      pen.fillText(text, MARGIN.left - 8, y(value));
    }
    pen.textAlign = "center";
    // Powers of ten; 2 and 5 times the powers of ten too, if there is room.
    const factors = right - left > 2.5 ? [1] : [1, 2, 5];
    for (const power of ticks(Math.floor(left), 0, 1)) {
      for (const factor of factors) {
        const prior = power + Math.log10(factor);
        if (prior < left - 1e-9 || prior > right + 1e-9) continue;
        pen.strokeStyle = ink("--line");
        pen.beginPath();
        pen.moveTo(Math.round(x(prior)) + 0.5, MARGIN.top);
        pen.lineTo(Math.round(x(prior)) + 0.5, height - MARGIN.bottom + 4);
        pen.stroke();
        const text = factors.length > 1 ? percent(10 ** prior) : `10${superscript(power)}`;
        pen.fillText(text, x(prior), height - MARGIN.bottom + 14);
      }
    }
    pen.fillStyle = ink("--ink");
    pen.fillText("prior (share of videos, log scale)", MARGIN.left + inner[0] / 2, height - 10);
    pen.textAlign = "left";
    pen.fillText("d′, in standard deviations", MARGIN.left - 16, 9);

    const radius = points.length > 5000 ? 2 : points.length > 500 ? 3 : 5;
    places = points.map(({ entry, prior }) => {
      // An infinite d' is drawn at the edge, as a triangle that points up or down.
      const value = Math.min(Math.max(entry.d_prime, low), high);
      const at = [x(prior), y(value)];
      pen.fillStyle = colour(entry.ap ?? 0);
      pen.beginPath();
      if (Number.isFinite(entry.d_prime)) pen.arc(...at, radius, 0, 2 * Math.PI);
      else {
        const up = entry.d_prime > 0 ? 1 : -1;
        pen.moveTo(at[0] - radius - 1, at[1] + up * radius);
        pen.lineTo(at[0] + radius + 1, at[1] + up * radius);
        pen.lineTo(at[0], at[1] - up * (radius + 1));
        pen.closePath();
      }
      // Of few positives or origins: hollow, in its colour.
      const fewOrigins =
        entry.effective_origins !== null && entry.effective_origins < data.min_origins;
      if (entry.positives < data.min_positives || fewOrigins) {
        pen.strokeStyle = pen.fillStyle;
        pen.lineWidth = 1.5;
        pen.stroke();
        return at;
      }
      pen.fill();
      pen.strokeStyle = ink("--soft");
      pen.lineWidth = 0.5;
      if (radius > 2) pen.stroke();
      return at;
    });
    if (chosen !== null) {
      pen.strokeStyle = ink("--ink");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(...places[chosen], radius + 3, 0, 2 * Math.PI);
      pen.stroke();
    }
  };

  const choose = (index) => {
    if (index === chosen) return;
    chosen = index;
    draw();
    tip.hidden = chosen === null;
    if (chosen === null) return;
    const { entry } = points[chosen];
    const [x, y] = places[chosen];
    tip.replaceChildren(
      element("b", entry.name),
      `d′ ${metric(entry.d_prime)}, AP ${metric(entry.ap)}, prior ${percent(entry.prior)}, `
        + `${count(entry.positives)} videos`,
    );
    const room = canvas.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.min(Math.max(x - tip.offsetWidth / 2, 0), room)}px`;
    tip.style.top = y > tip.offsetHeight + 16 ? `${y - tip.offsetHeight - 12}px` : `${y + 12}px`;
  };

  const under = (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [nearest, distance] = [null, 20 ** 2];
    places.forEach(([px, py], i) => {
      const squared = (px - x) ** 2 + (py - y) ** 2;
      if (squared < distance) [nearest, distance] = [i, squared];
    });
    return nearest;
  };
  canvas.addEventListener("pointermove", (event) => choose(under(event)));
  canvas.addEventListener("pointerdown", (event) => choose(under(event)));
  canvas.addEventListener("pointerleave", () => choose(null));
  canvas.addEventListener("blur", () => choose(null));
  canvas.addEventListener("click", (event) => {
    const index = under(event);
    if (index === null || event.pointerType === "touch") return;
    filter.value = points[index].entry.name;
    refresh();
    filter.scrollIntoView({ block: "start", behavior: "smooth" });
  });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (!(event.key in steps) || !points.length) return;
    event.preventDefault();
    const next = (chosen ?? -1) + steps[event.key];
    choose(Math.min(Math.max(next, 0), points.length - 1));
  });
  new ResizeObserver(draw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
