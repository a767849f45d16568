// Sets the last theme of this browser before the first paint. The account's preferences are loaded later and have
// priority; see view-settings.js.
document.documentElement.dataset.theme = localStorage.getItem("flack.theme") ?? "system";
