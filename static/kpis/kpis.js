// The browser's part of the dashboards: draws what the server has made, in the colours of the page, and gives
// figures away as PNG. Without it, every number is in the tables.
"use strict";

(() => {
    // The server's colours (kpis/plots.py) on a dark page.
    const DARK = {
        "#0072B2": "#56B4E9", "#D55E00": "#F0A04B", "#007E5C": "#3CC9A0", "#A5538A": "#E29CC8", "#6B7280": "#9AA5B5",
        "#CFE3F1": "#21405A", "#1F2937": "#E5E9F0", "#4B5563": "#A3AEC0", "#E5E7EB": "#28344A", "#FFFFFF": "#131C2E",
    };
    const TICK_PX = 76;
    const CONFIG = { displayModeBar: false, responsive: true };
    const TITLE_PLACE = { x: 0.01, xanchor: "left", y: 1, yref: "container", yanchor: "top", pad: { t: 14 } };
    const PNG_PX = { width: 1100, scale: 2, titleHeight: 72 };

    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const paper = window.matchMedia("print");

    const parsed = (place) => JSON.parse(document.getElementById(place.dataset.plot).textContent);

    function inColors(value, colors) {
        if (Array.isArray(value)) return value.map((each) => inColors(each, colors));
        if (value && typeof value === "object") {
            return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, inColors(each, colors)]));
        }
        return typeof value === "string" ? colors[value] ?? value : value;
    }

    function plotFor(place) {
        const plot = inColors(parsed(place), dark.matches && !paper.matches ? DARK : {});
        const { xaxis } = plot.layout;
        if (xaxis?.nticks) xaxis.nticks = Math.max(3, Math.min(xaxis.nticks, Math.floor(place.clientWidth / TICK_PX)));
        if (xaxis?.tickvals && xaxis.type === "linear") thin(xaxis);
        return plot;
    }

    // Leaves out ticks that are given, so that as many are left as there is room for.
    function thin(axis) {
        const every = Math.ceil(axis.tickvals.length / axis.nticks);
        const kept = (_each, index) => index % every === 0;
        [axis.tickvals, axis.ticktext] = [axis.tickvals.filter(kept), axis.ticktext.filter(kept)];
    }

    function draw(place) {
        const plot = plotFor(place);
        place.style.height = `${plot.layout.height}px`;
        return Plotly.react(place, plot.data, plot.layout, CONFIG);
    }

    const places = () => [...document.querySelectorAll("[data-plot]")];

    async function drawAll() {
        for (const place of places()) await draw(place);
    }

    // The figures in the window first: nobody waits for what is further down.
    async function drawInTurn() {
        const waiting = places();
        for (const place of waiting) place.style.height = `${parsed(place).layout.height}px`;
        const further = waiting.filter((place) => place.getBoundingClientRect().top > window.innerHeight);
        for (const place of waiting) if (!further.includes(place)) await draw(place);
        tell("drawn");
        for (const place of further) {
            await new Promise((resolve) => setTimeout(resolve));
            await draw(place);
        }
        tell("complete");
    }

    // So that tests and the bench know when: milliseconds from the beginning of the navigation.
    function tell(what) {
        document.documentElement.dataset[what] = Math.round(performance.now());
    }

    function asPng(place) {
        const { data, layout } = parsed(place);
        const subtitle = { text: place.dataset.subtitle, font: { size: 13 } };
        const title = { text: place.dataset.title, subtitle, font: { size: 18 }, ...TITLE_PLACE };
        const margin = { ...layout.margin, t: layout.margin.t + PNG_PX.titleHeight, l: 16, b: 16 };
        const height = layout.height + PNG_PX.titleHeight;
        const whole = { ...layout, title, margin, height, width: PNG_PX.width, paper_bgcolor: "#FFFFFF" };
        const size = { format: "png", width: PNG_PX.width, height, scale: PNG_PX.scale };
        return Plotly.downloadImage({ data, layout: whole }, { ...size, filename: place.dataset.file });
    }

    function listen() {
        for (const button of document.querySelectorAll("[data-png]")) {
            const place = document.querySelector(`[data-plot="${button.dataset.png}"]`);
            button.addEventListener("click", () => asPng(place));
        }
        for (const button of document.querySelectorAll("[data-print]")) {
            button.addEventListener("click", () => window.print());
        }
        for (const search of document.querySelectorAll("[data-narrows]")) {
            search.addEventListener("input", () => narrow(search));
        }
        document.querySelector("form.filters")?.addEventListener("submit", (event) => tidy(event.target));
        document.addEventListener("click", (event) => closeChoices((open) => !open.contains(event.target)));
        document.addEventListener("keydown", (event) => event.key === "Escape" && closeChoices(() => true));
    }

    function narrow(search) {
        const wanted = search.value.trim().toLowerCase();
        for (const box of document.querySelectorAll(`input[name="${search.dataset.narrows}"]`)) {
            box.parentElement.hidden = !box.parentElement.textContent.toLowerCase().includes(wanted);
        }
    }

    // Leaves out of the address what says nothing.
    function tidy(form) {
        const isRange = form.elements.period.value === "range";
        for (const field of [form.elements.from, form.elements.to]) field.disabled = !isRange;
        form.elements.use_case.disabled = form.elements.use_case.value === "";
        form.elements.compare.disabled = form.elements.compare.value === "on";
    }

    function closeChoices(whether) {
        for (const open of document.querySelectorAll("details.choices[open]")) if (whether(open)) open.open = false;
    }

    // On narrow screens the pages are a row that is wider than the screen.
    function showCurrentPage() {
        const pages = document.querySelector(".pages");
        const current = pages?.querySelector("[aria-current]");
        if (current) pages.scrollLeft = current.offsetLeft - (pages.clientWidth - current.offsetWidth) / 2;
    }

    // What the browser kept from before a step back is shown as it is.
    window.addEventListener("pageshow", () => {
        for (const field of document.querySelectorAll("form.filters :disabled")) field.disabled = false;
    });

    for (const element of document.querySelectorAll(".needs-script")) element.hidden = false;
    showCurrentPage();
    listen();
    drawInTurn();
    dark.addEventListener("change", drawAll);
    window.addEventListener("beforeprint", drawAll);
    window.addEventListener("afterprint", drawAll);
})();
