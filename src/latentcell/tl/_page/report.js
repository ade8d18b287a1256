"use strict";
(() => {
  const data = JSON.parse(document.getElementById("payload").textContent);
  const RAMP = ["#d3dae6", "#a3bbe6", "#6f93d9", "#4766bd", "#2f3f96", "#1a1858"];
  const MISSING = "#d3d3d3";
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const words = (text) => {
    const b = bytes(text), found = new Uint16Array(b.length / 2);
    for (let i = 0; i < found.length; i++) found[i] = b[2 * i] | (b[2 * i + 1] << 8);
    return found;
  };
  const mix = (a, b, t) => {
    const part = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
    return "rgb(" + [0, 1, 2].map((k) => Math.round(part(a, k) + t * (part(b, k) - part(a, k)))).join(",") + ")";
  };
  const shades = Array.from({ length: 255 }, (_, i) => {
    const at = (i / 254) * (RAMP.length - 1), k = Math.min(Math.floor(at), RAMP.length - 2);
    return mix(RAMP[k], RAMP[k + 1], at - k);
  });
  shades.push(MISSING);
  const show = (value) => (Math.abs(value) >= 1000 || (value !== 0 && Math.abs(value) < 0.01) ? value.toPrecision(3) : String(+value.toPrecision(4)));
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const sets = {};
  for (const [name, set] of Object.entries(data.sets)) {
    const codes = {};
    for (const [k, packed] of Object.entries(set.codes)) codes[k] = packed.bytes === 2 ? words(packed.data) : bytes(packed.data);
    sets[name] = { names: set.names, x: words(set.x), y: words(set.y), codes };
  }

  class Panel {
    constructor(map, figure) {
      this.map = map;
      this.set = sets[figure.dataset.set];
      this.canvas = figure.querySelector("canvas");
      this.tip = make("div", "tip");
      this.tip.hidden = true;
      figure.append(this.tip);
      this.mark = -1;
      this.order = Array.from(this.set.x.keys());
      this.byX = this.order.slice().sort((a, b) => this.set.x[a] - this.set.x[b] || a - b);
      this.byY = this.order.slice().sort((a, b) => this.set.y[a] - this.set.y[b] || a - b);
      this.canvas.addEventListener("pointermove", (event) => this.point(event));
      this.canvas.addEventListener("pointerdown", (event) => this.point(event));
      this.canvas.addEventListener("pointerleave", () => this.hide());
      this.canvas.addEventListener("keydown", (event) => this.step(event));
      new ResizeObserver(() => this.draw()).observe(this.canvas);
    }
    isOn(i) {
      const { coloring, k, off } = this.map;
      return coloring.kind !== "labels" || !this.set.codes[k] || !off[k].has(this.set.codes[k][i]);
    }
    place(i) {
      const pad = 8;
      return [pad + (this.set.x[i] / 65535) * (this.width - 2 * pad), this.height - pad - (this.set.y[i] / 65535) * (this.height - 2 * pad)];
    }
    draw() {
      const width = this.canvas.clientWidth, ratio = window.devicePixelRatio || 1;
      if (!width) return;
      this.width = width;
      this.height = Math.round(width * 0.85);
      this.canvas.style.height = this.height + "px";
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(this.height * ratio);
      const c = this.canvas.getContext("2d");
      c.setTransform(ratio, 0, 0, ratio, 0, 0);
      c.clearRect(0, 0, width, this.height);
      const n = this.order.length, size = Math.max(1.6, Math.min(6, 170 / Math.sqrt(n + 1))) * Math.min(1, Math.max(0.6, width / 600));
      const { coloring, k } = this.map, codes = this.set.codes[k];
      let order = this.order;
      if (codes && coloring.kind === "numbers") {
        order = order.slice().sort((a, b) => (codes[a] === 255 ? -1 : codes[a]) - (codes[b] === 255 ? -1 : codes[b]) || a - b);
      }
      const colors = coloring.kind === "labels" ? coloring.colors : shades;
      this.grid = new Map();
      let shown = 0;
      for (const i of order) {
        if (!this.isOn(i)) continue;
        const [x, y] = this.place(i);
        c.fillStyle = codes ? colors[codes[i]] : "#6e7781";
        if (size > 3) { c.beginPath(); c.arc(x, y, size / 2, 0, 7); c.fill(); } else c.fillRect(x - size / 2, y - size / 2, size, size);
        const cell = (x >> 4) + "," + (y >> 4);
        if (this.grid.has(cell)) this.grid.get(cell).push(i); else this.grid.set(cell, [i]);
        shown++;
      }
      this.canvas.dataset.shown = shown;
      if (this.mark >= 0 && this.isOn(this.mark)) this.ring(c, this.mark);
    }
    ring(c, i) {
      const [x, y] = this.place(i);
      c.lineWidth = 4; c.strokeStyle = "#fff"; c.beginPath(); c.arc(x, y, 8, 0, 7); c.stroke();
      c.lineWidth = 2; c.strokeStyle = "#1b1f24"; c.beginPath(); c.arc(x, y, 8, 0, 7); c.stroke();
    }
    nearest(x, y) {
      let best = -1, least = 100;
      for (let a = (x >> 4) - 1; a <= (x >> 4) + 1; a++) for (let b = (y >> 4) - 1; b <= (y >> 4) + 1; b++) {
        for (const i of this.grid.get(a + "," + b) || []) {
          const [px, py] = this.place(i), d = (px - x) ** 2 + (py - y) ** 2;
          if (d <= least) { least = d; best = i; }
        }
      }
      return best;
    }
    words(i) {
      const { coloring, k } = this.map, parts = [this.set.names[i]];
      for (const j of new Set([k, data.group])) {
        const codes = this.set.codes[j], other = data.colorings[j];
        if (!codes || !other) continue;
        if (other.kind === "labels") parts.push(other.name + ": " + other.labels[codes[i]]);
        else parts.push(other.name + ": " + (codes[i] === 255 ? "NA" : show(other.low + (codes[i] / 254) * (other.high - other.low))));
      }
      return parts.join(" · ");
    }
    point(event) {
      const box = this.canvas.getBoundingClientRect(), i = this.nearest(event.clientX - box.left, event.clientY - box.top);
      if (i < 0) this.hide(); else this.tell(i);
    }
    tell(i) {
      const [x, y] = this.place(i);
      this.tip.textContent = this.words(i);
      this.tip.hidden = false;
      this.tip.style.left = Math.max(0, Math.min(x + 10, this.width - this.tip.offsetWidth)) + "px";
      this.tip.style.top = this.canvas.offsetTop + (y + 14 + this.tip.offsetHeight > this.height ? y - 8 - this.tip.offsetHeight : y + 14) + "px";
    }
    hide() { this.tip.hidden = true; }
    choose(i) {
      this.mark = i;
      this.draw();
      this.tell(i);
      this.map.say(this.words(i));
    }
    step(event) {
      const [order, by] = { ArrowRight: [this.byX, 1], ArrowLeft: [this.byX, -1], ArrowUp: [this.byY, 1], ArrowDown: [this.byY, -1] }[event.key] || [];
      if (event.key === "Escape") { this.mark = -1; this.hide(); this.draw(); return; }
      if (!order) return;
      event.preventDefault();
      let at = this.mark < 0 ? (by > 0 ? -1 : order.length) : order.indexOf(this.mark);
      do at += by; while (at >= 0 && at < order.length && !this.isOn(order[at]));
      if (at >= 0 && at < order.length) this.choose(order[at]);
    }
  }

  class MapView {
    constructor(root) {
      this.root = root;
      this.off = data.colorings.map(() => new Set());
      this.status = root.querySelector(".said");
      this.legend = root.querySelector(".legend");
      const only = root.dataset.colorings === "shared" ? data.shared : data.colorings.map((_, i) => i);
      this.select = root.querySelector("select");
      for (const i of only) {
        const option = make("option", "", data.colorings[i].name);
        option.value = i;
        this.select.append(option);
      }
      this.k = only.length ? only[0] : -1;
      this.select.disabled = only.length === 0;
      this.panels = Array.from(root.querySelectorAll(".panel"), (figure) => new Panel(this, figure));
      this.select.addEventListener("change", () => { this.k = +this.select.value; this.refresh(); });
      for (const button of root.querySelectorAll("button[data-turn]")) {
        button.addEventListener("click", () => this.turn(button.dataset.turn === "on"));
      }
      root.querySelector("form").addEventListener("submit", (event) => { event.preventDefault(); this.find(root.querySelector("input[type=search]").value.trim()); });
      this.refresh();
    }
    get coloring() { return this.k < 0 ? { kind: "none" } : data.colorings[this.k]; }
    say(text) { this.status.textContent = text; }
    refresh() { this.fill(); this.draw(); }
    draw() {
      for (const panel of this.panels) { panel.hide(); panel.draw(); }
    }
    fill() {
      const { coloring, k } = this;
      this.legend.replaceChildren(make("legend", "", this.k < 0 ? "Cells" : coloring.name));
      for (const button of this.root.querySelectorAll("button[data-turn]")) button.hidden = coloring.kind !== "labels";
      if (coloring.kind === "labels") {
        coloring.labels.forEach((label, code) => {
          const line = make("label"), box = make("input"), swatch = make("span", "swatch");
          const n = this.panels.map((panel) => (panel.set.codes[k] || []).reduce((sum, c) => sum + (c === code), 0));
          box.type = "checkbox";
          box.checked = !this.off[k].has(code);
          box.dataset.code = code;
          box.addEventListener("change", () => { if (box.checked) this.off[k].delete(code); else this.off[k].add(code); this.draw(); this.count(); });
          swatch.style.background = coloring.colors[code];
          line.append(box, swatch, make("span", "", label), make("small", "", n.join(" | ")));
          this.legend.append(line);
        });
        this.count();
      } else if (coloring.kind === "numbers") {
        const ramp = make("div", "ramp"), ends = make("div", "ends");
        ramp.style.background = "linear-gradient(to right, " + RAMP.join(", ") + ")";
        ends.append(make("span", "", show(coloring.low)), make("span", "", coloring.unit), make("span", "", show(coloring.high)));
        this.legend.append(ramp, ends);
        this.say("");
      }
    }
    count() {
      const n = this.panels.map((panel) => panel.order.reduce((sum, i) => sum + panel.isOn(i), 0));
      const all = this.panels.map((panel) => panel.order.length);
      this.say(n.map((shown, i) => shown + " of " + all[i] + " " + this.panels[i].canvas.dataset.what).join(", ") + " shown");
    }
    turn(on) {
      if (this.coloring.kind !== "labels") return;
      this.off[this.k] = new Set(on ? [] : this.coloring.labels.keys());
      this.refresh();
    }
    find(name) {
      if (!name) return;
      const tests = [(other) => other === name, (other) => other.startsWith(name), (other) => other.includes(name)];
      for (const test of tests) for (const panel of this.panels) {
        const at = panel.set.names.findIndex(test);
        if (at >= 0) {
          panel.choose(at);
          if (!panel.isOn(at)) this.say(panel.words(at) + " (its group is switched off)");
          return;
        }
      }
      this.say("No cell here is named " + name);
    }
  }

  const maps = Array.from(document.querySelectorAll(".map"), (root) => new MapView(root));
  document.documentElement.dataset.ready = maps.length;
})();
