"use strict";

/* The kit of all pages: data that come as scripts, elements that can't be fooled, files to save. */
const Page = (() => {
  const data = Object.create(null);
  const asked = new Map();

  /** Called by every data script. Chunk `number` of `name` is here. */
  function put(name, number, value) {
    (data[name] ||= [])[number] = value;
  }

  /** A chunk that is loaded when it is asked for. */
  function chunk(name, number) {
    const id = `${name}-${String(number).padStart(5, "0")}`;
    if (!asked.has(id)) {
      asked.set(id, new Promise((resolve, reject) => {
        if (data[name]?.[number] !== undefined) {
          resolve(data[name][number]);
          return;
        }
        const script = document.createElement("script");
        script.src = `data/${id}.js`;
        script.onload = () => {
          script.remove();
          resolve(data[name][number]);
        };
        script.onerror = () => reject(new Error(`${script.src} can't be read`));
        document.head.append(script);
      }));
    }
    return asked.get(id);
  }

  /** An element. Text becomes text nodes, never markup, whatever it holds. */
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") node.addEventListener(name, value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value != null) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child != null));
    return node;
  }

  /** Rows of values as a CSV (RFC 4180), read back unchanged by any reader of CSV. */
  function csv(rows) {
    const field = (value) => {
      const text = String(value ?? "");
      return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return rows.map((row) => row.map(field).join(",") + "\r\n").join("");
  }

  function save(name, text, type = "text/csv;charset=utf-8") {
    const link = el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  /** What is kept in the browser between two visits; null where the browser keeps nothing. */
  function recall(name) {
    try {
      return JSON.parse(localStorage.getItem(name));
    } catch {
      return null;
    }
  }

  /** Whether it was kept. */
  function remember(name, value) {
    try {
      localStorage.setItem(name, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  }

  /** Is the key meant for a field that has the focus, and not for the page? */
  function typing(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return true;
    const at = event.target;
    if (at instanceof HTMLTextAreaElement || at instanceof HTMLSelectElement) return true;
    return at instanceof HTMLInputElement && !["checkbox", "range", "button"].includes(at.type);
  }

  const whole = new Intl.NumberFormat("en");
  const count = (number) => whole.format(number);

  /** Run at most once a frame. */
  function oncePerFrame(run) {
    let queued = false;
    return () => {
      if (queued) return;
      queued = true;
      requestAnimationFrame(() => {
        queued = false;
        run();
      });
    };
  }

  return { data, put, chunk, el, csv, save, recall, remember, typing, count, oncePerFrame };
})();
