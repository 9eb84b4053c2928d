// Adds to the pages what a browser can do better with a script. Every page works without it.
"use strict";

// Copy: puts the text of an element on the clipboard, and says so.
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    const status = document.getElementById("copied");
    try {
      await navigator.clipboard.writeText(source.textContent);
      status.textContent = button.dataset.done;
    } catch {
      // Without access to the clipboard the text is selected, ready for the keyboard.
      const range = document.createRange();
      range.selectNodeContents(source);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      status.textContent = button.dataset.failed;
    }
  });
}

// Show the password that is being typed.
for (const box of document.querySelectorAll("input[data-reveal]")) {
  box.closest(".reveal").hidden = false;
  box.addEventListener("change", () => {
    document.getElementById(box.dataset.reveal).type = box.checked ? "text" : "password";
  });
  // A password that is visible is not sent from a visible field, which browsers would remember.
  box.form.addEventListener("submit", () => {
    document.getElementById(box.dataset.reveal).type = "password";
  });
}

// Filter the roles of this page while typing. Enter searches all of them.
const search = document.querySelector("input[data-filter]");
if (search) {
  const groups = [...document.querySelectorAll("[data-account]")];
  const found = document.getElementById("found");
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const group of groups) {
      let any = false;
      for (const item of group.querySelectorAll("li")) {
        const text = (group.dataset.account + " " + item.textContent).toLowerCase();
        const is = words.every((word) => text.includes(word));
        item.hidden = !is;
        any ||= is;
        count += is ? 1 : 0;
      }
      group.hidden = !any;
    }
    found.textContent = found.dataset.text.replace("{}", count);
  });
}
