"use strict";
(() => {
  const MOST = 10; // classes with a colour of their own at a time
  const FAINT = { colour: "#9a9a9a", alpha: 0.18, size: 4 };
  const THUMB = 112; // pixels of a thumbnail's side on the card

  // What each point looks like, faint ones first so that they lie beneath.
  const dressed = (data, chosen) => {
    const everyOwn = chosen.length === 0 && data.classes.length <= MOST;
    const looks = data.x.map((_, i) => {
      const truth = data.truth[i], right = truth === data.predicted[i];
      const rank = everyOwn ? truth : chosen.indexOf(truth);
      if (chosen.length && rank < 0) return { place: i, ...FAINT, shape: right ? "circle" : "x" };
      const colour = rank >= 0 ? data.colours[rank] : right ? data.unchosen : data.wrong;
      return { place: i, colour, alpha: right ? 0.75 : 1, size: right ? 6 : 9, shape: right ? "circle" : "x", front: 1 };
    });
    looks.sort((a, b) => (a.front ?? 0) - (b.front ?? 0) || (a.shape === "x") - (b.shape === "x"));
    const column = (name) => looks.map((look) => look[name]);
    return {
      x: looks.map((look) => data.x[look.place]), y: looks.map((look) => data.y[look.place]), place: column("place"),
      colour: column("colour"), alpha: column("alpha"), size: column("size"), shape: column("shape"),
    };
  };

  const fill = (card, data, i) => {
    const right = data.truth[i] === data.predicted[i], thumb = card.querySelector(".thumb");
    card.querySelector(".name").textContent = data.names[i];
    card.querySelector(".truth").textContent = data.classes[data.truth[i]];
    const predicted = card.querySelector(".predicted");
    predicted.textContent = data.classes[data.predicted[i]] + (right ? "" : " (wrong)");
    predicted.classList.toggle("wrong", !right);
    card.querySelector(".confidence").textContent = (100 * data.confidence[i]).toFixed(1) + " %";
    thumb.hidden = !data.thumbs;
    thumb.style.backgroundPosition = `${-(i % data.across) * THUMB}px ${-Math.floor(i / data.across) * THUMB}px`;
  };

  const beside = (card, plot, x, y) => {
    card.hidden = false;
    const wide = card.offsetWidth, high = card.offsetHeight;
    const left = x + 16 + wide <= plot.clientWidth ? x + 16 : Math.max(4, x - 16 - wide);
    card.style.left = `${Math.max(4, Math.min(left, plot.clientWidth - wide - 4))}px`;
    card.style.top = `${Math.max(4, Math.min(y - high / 2, plot.clientHeight - high - 4))}px`;
  };

  const start = async (holder) => {
    const data = JSON.parse(holder.textContent), figure = holder.closest("figure");
    const plot = figure.querySelector(".plot"), canvas = plot.querySelector(".canvas");
    const card = plot.querySelector(".card-of-point"), told = figure.querySelector(".told");
    const views = await Bokeh.embed.embed_item(data.item, holder.dataset.plot);
    const model = views.roots[0].model, source = model.document.get_model_by_name("points");
    model.height = Math.round(Math.max(340, Math.min(model.height, 1.1 * canvas.clientWidth)));
    let chosen = [], at = [0, 0], touched = false;

    const thumb = card.querySelector(".thumb");
    if (data.thumbs) {
      thumb.style.width = thumb.style.height = `${THUMB}px`;
      thumb.style.backgroundImage = `url("${data.thumbs}")`;
      thumb.style.backgroundSize = `${data.across * THUMB}px auto`;
      if (data.side < THUMB / 2) thumb.style.imageRendering = "pixelated";
    }

    const draw = () => {
      card.hidden = true;
      source.selected.indices = [];
      source.data = dressed(data, chosen);
      for (const button of figure.querySelectorAll(".one")) {
        const rank = chosen.indexOf(Number(button.dataset.class));
        const own = rank >= 0 ? rank : chosen.length || data.classes.length > MOST ? -1 : Number(button.dataset.class);
        button.setAttribute("aria-pressed", String(rank >= 0));
        button.style.setProperty("--own", own >= 0 ? data.colours[own] : "transparent");
      }
      told.textContent = chosen.length
        ? `Shown in colour: ${chosen.map((one) => data.classes[one]).join(", ")}.`
        : `All ${data.classes.length} classes; ${data.x.length.toLocaleString("en")} images.`;
    };
    figure.querySelector(".classes").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const one = Number(button.dataset.class);
      if (button.classList.contains("all")) chosen = [];
      else if (chosen.includes(one)) chosen = chosen.filter((other) => other !== one);
      else chosen = [...chosen, one].slice(-MOST);
      draw();
    });

    const show = (indices) => {
      const places = indices.map((index) => source.data.place[index]);
      const found = places.filter((place) => !chosen.length || chosen.includes(data.truth[place])).pop();
      if (found === undefined) card.hidden = true;
      else {
        fill(card, data, found);
        beside(card, plot, ...at);
      }
    };
    const follow = (event) => {
      const box = plot.getBoundingClientRect();
      at = [event.clientX - box.left, event.clientY - box.top];
      touched = event.pointerType !== "mouse";
    };
    for (const kind of ["pointermove", "pointerdown"]) plot.addEventListener(kind, follow, { capture: true });
    plot.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") card.hidden = true;
    });
    source.inspect.connect(() => {
      if (!touched) show([...source.inspected.indices]); // a finger that is lifted points at nothing
    });
    source.selected.properties.indices.change.connect(() => {
      if (source.selected.indices.length) show([...source.selected.indices]);
    });
    draw();
    plot.dataset.ready = "yes";
  };
  for (const holder of document.querySelectorAll("script[data-plot]")) start(holder);
})();
