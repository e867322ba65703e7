/* Shows the Show/Hide buttons of password fields, and makes one click of two. Every page works without this file. */
(function () {
  "use strict";

  function setType(button, input, type) {
    if (input.type === type) return;
    input.type = type;
    // The button's text and name change places with those it will have next.
    var text = button.textContent;
    var label = button.getAttribute("aria-label");
    button.textContent = button.getAttribute("data-af-text");
    button.setAttribute("aria-label", button.getAttribute("data-af-label"));
    button.setAttribute("data-af-text", text);
    button.setAttribute("data-af-label", label);
  }

  document.querySelectorAll(".af-reveal").forEach(function (button) {
    var input = document.getElementById(button.getAttribute("aria-controls"));
    if (!input) return;
    button.hidden = false;
    button.addEventListener("click", function () {
      setType(button, input, input.type === "password" ? "text" : "password");
    });
    // A browser offers to remember what was in a text field, but not a password.
    if (input.form) {
      input.form.addEventListener("submit", function () {
        setType(button, input, "password");
      });
    }
  });

  // Only the answer to the second click would be seen: where the first one renewed the login, "log in".
  var sent = -Infinity;
  document.addEventListener("submit", function (event) {
    if (!event.target.querySelector(".af-button")) return; // a form of the site around ours
    if (event.timeStamp - sent < 1000) {
      event.preventDefault();
    } else {
      sent = event.timeStamp;
    }
  });
})();
