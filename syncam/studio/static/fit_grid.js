// The size of the player's pictures.

const GAP = 10; // pixels between cells, as in the style sheet
const BESIDE = 170; // of the window's height, for what stands above and below the pictures

export const roomHeight = () => Math.max(220, window.innerHeight - BESIDE);

// As many views in a row as make them largest in this window, or up to three tenths smaller for fewer rows.
export function fitGrid(node, width, count, ratio) {
  const height = roomHeight();
  if (!count || !width) return;
  const sizes = Array.from({ length: count }, (_, i) => {
    const [across, down] = [i + 1, Math.ceil(count / (i + 1))];
    return Math.min((width - GAP * (across - 1)) / across, ((height - GAP * (down - 1)) / down) * ratio);
  });
  const most = sizes.findLastIndex((size) => size >= 0.7 * Math.max(...sizes)) + 1;
  const across = Math.ceil(count / Math.ceil(count / most)); // rows as full as they can be
  node.style.setProperty("--across", across);
  node.style.setProperty("--cell", `${Math.floor(sizes[across - 1])}px`);
}
