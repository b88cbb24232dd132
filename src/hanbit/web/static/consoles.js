/* Passkeys in the consoles: the one thing there that needs a script. The browser's answer goes into the form's own field, and the form to us. */

const supported = typeof globalThis.PublicKeyCredential?.parseRequestOptionsFromJSON === "function";

async function ask(options) {
  const made = JSON.parse(options.textContent);
  const credential =
    options.dataset.passkeyOptions === "create"
      ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(made) })
      : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(made) });
  return JSON.stringify(credential.toJSON());
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const options = form.querySelector("[data-passkey-options]");
  const answer = form.querySelector("input[name=passkey]");
  const button = form.querySelector("button[hidden]");
  const failed = form.querySelector("[data-failed]");
  const code = form.querySelector("input[name=code]");
  if (!supported) continue;
  button.hidden = false;
  for (const hint of form.querySelectorAll("[data-without]")) hint.hidden = true;
  form.addEventListener("submit", (event) => {
    // Enter in the code's field presses the form's first button, which is this one: whoever typed a code there means the code.
    const isCode = code !== null && document.activeElement === code;
    if (event.submitter !== button || isCode || answer.value !== "") return;
    event.preventDefault();
    button.disabled = true;
    failed.hidden = true;
    ask(options).then(
      (said) => {
        answer.value = said;
        form.submit();
      },
      () => {
        button.disabled = false;
        failed.hidden = false;
      },
    );
  });
}
