// The price follows the quantity; without this script the shop's own server reckons all the same.
const form = document.querySelector("form.order");
const quantity = form.elements.quantity;
const price = document.getElementById("price");
quantity.addEventListener("input", () => {
  const count = quantity.validity.valid ? quantity.valueAsNumber : 1;
  price.value = (count * Number(form.dataset.price)).toLocaleString("en-US") + form.dataset.unit;
});
// A second click would place a second order; coming back by the back button makes a new one possible again.
form.addEventListener("submit", () => { form.querySelector("button").disabled = true; });
addEventListener("pageshow", () => { form.querySelector("button").disabled = false; });
