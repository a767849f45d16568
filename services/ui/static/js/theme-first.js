// The colours chosen last in this browser, before anything is painted. The account's own choice arrives later
// from /api/ui/preferences and wins; see view-settings.js.
document.documentElement.dataset.theme = localStorage.getItem("flack.theme") ?? "system";
