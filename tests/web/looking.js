// What stands on the page: texts of too little contrast, and controls and pictures without a name.
() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const painted = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
    }
    const light = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2];
  };
  const grounds = (element) => (element ? [...grounds(element.parentElement), getComputedStyle(element).backgroundColor] : []);
  const contrast = (element) => {
    const under = grounds(element);
    const [darker, lighter] = [painted(under), painted([...under, getComputedStyle(element).color])].sort((a, b) => a - b);
    return (lighter + 0.05) / (darker + 0.05);
  };
  const visible = (element) => element.checkVisibility() && element.getBoundingClientRect().right > 0;
  const spoken = (element) => [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  const texts = [...document.body.querySelectorAll("*")].filter((element) => visible(element) && spoken(element) && !element.closest(":disabled"));
  const name = (element) => element.getAttribute("aria-label") || element.labels?.[0]?.innerText || element.alt || element.innerText;
  const named = [...document.querySelectorAll("button, input, select, textarea")].filter(visible);
  return {
    texts: texts.length,
    faint: texts.filter((element) => contrast(element) < 4.5).map((element) => `${element.innerText} ${contrast(element).toFixed(2)}`),
    nameless: [...named.filter((element) => !name(element)?.trim()), ...[...document.images].filter((image) => !image.hasAttribute("alt"))].map((element) => element.outerHTML),
  };
}
