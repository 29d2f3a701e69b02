// The buttons that copy a command or a setting.

import { at } from "./data.js";

const SHOWN_MS = 1500; // how long a button says that it has copied

function confirm(button) {
  button.textContent = "Copied";
  setTimeout(() => {
    button.textContent = "Copy";
  }, SHOWN_MS);
}

async function copy(button) {
  const source = at(button.dataset.of);
  try {
    await navigator.clipboard.writeText(source.textContent);
    confirm(button);
  } catch {
    // Without the right to write to the clipboard: select the text, so that the reader can copy it.
    getSelection().selectAllChildren(source);
    if (document.execCommand("copy")) confirm(button);
  }
}

export function connectCopying() {
  for (const button of document.querySelectorAll("button.copy")) button.addEventListener("click", () => copy(button));
}
