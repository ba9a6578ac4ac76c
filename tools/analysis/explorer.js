'use strict';
// The page of tools.analysis.explorer. The command that writes it puts the data into the element #data.

const $ = id => document.getElementById(id);
const errors = [];
addEventListener('error', event => errors.push(event.message));
addEventListener('unhandledrejection', event => errors.push(String(event.reason)));

// Okabe and Ito's colours, and in place of those that the background hides others that stay apart from them
const LIGHT = ['#0072b2', '#e69f00', '#009e73', '#d55e00', '#56b4e9', '#cc79a7', '#6600cc', '#000000'];
const DARK = ['#3a9bdc', '#e69f00', '#009e73', '#d55e00', '#8fd0f5', '#cc79a7', '#f0e442', '#ffffff'];
const SHAPES = [polygon(40, 0, 1), polygon(4, 0.785), polygon(3, -1.571, 1.2), polygon(4, 0, 1.2), polygon(3, 1.571, 1.2),
  polygon(10, -1.571, 1.3, 0.55), polygon(8, 0, 1.35, 0.45), polygon(8, 0.785, 1.35, 0.45)];
const COLOURED_AT_FIRST = 8;  // of more classes than 10

let data, N, theme, map, overlay;
let grid;                                // clips by cell of the map, so that the nearest is found fast
let visible, ticked = [], styles = [];   // of clips; classes in the order in which they were ticked; sprites
let view = {zoom: 1, x: 0.5, y: 0.5};    // the point of the unit square in the middle of the map
let hovered = -1, selected = -1, stale = true, asked = 0, cards = [];
const times = {hover: [], map: []};      // milliseconds, for the test

// data
async function unpack(text, Type) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  const buffer = await new Response(stream).arrayBuffer();
  return Type ? new Type(buffer) : JSON.parse(new TextDecoder().decode(buffer));
}

async function load() {
  const packed = JSON.parse($('data').textContent);
  $('data').textContent = '';
  data = await unpack(packed.about);
  const types = {points: Float32Array, label: Uint16Array, train: Uint8Array, num_frames: Uint32Array,
    neighbours: Uint32Array, similarity: Float32Array, bodies: Uint8Array, poses: Uint8Array};
  for (const [name, type] of Object.entries(types)) data[name] = await unpack(packed[name], type);
  N = data.label.length;
  const {poses, frames} = data, bodyBytes = 2 * data.parents.length * frames;
  for (let row = 0; row < poses.length; row += frames)  // differences to bytes
    for (let t = 1; t < frames; t++) poses[row + t] += poses[row + t - 1];
  data.first = new Uint32Array(N);
  for (let i = 1; i < N; i++) data.first[i] = data.first[i - 1] + data.bodies[i - 1] * bodyBytes;
  data.right = Uint8Array.from({length: N}, (_, i) => data.label[data.neighbours[i * data.k]] === data.label[i]);
  data.counts = new Array(data.classes.length).fill(0);
  for (const label of data.label) data.counts[label]++;
  scalePoints();
  visible = new Uint8Array(N).fill(1);
}

function scalePoints() {  // to the unit square, y down
  const p = data.points, low = [Infinity, Infinity], high = [-Infinity, -Infinity];
  p.forEach((value, i) => { low[i & 1] = Math.min(low[i & 1], value); high[i & 1] = Math.max(high[i & 1], value); });
  const size = Math.max(high[0] - low[0], high[1] - low[1]) || 1;
  for (let i = 0; i < 2 * N; i++) p[i] = 0.5 + (i & 1 ? -1 : 1) * (p[i] - (low[i & 1] + high[i & 1]) / 2) / size;
  const cells = Math.max(1, Math.ceil(Math.sqrt(N / 4)));
  const cell = i => at(p[2 * i + 1]) * cells + at(p[2 * i]);
  const at = u => Math.min(cells - 1, Math.max(0, Math.floor(u * cells)));
  grid = {cells, at, items: Array.from({length: cells * cells}, () => [])};
  for (let i = 0; i < N; i++) grid.items[cell(i)].push(i);
}

function nearestTo(x, y, reach) {  // the visible clip nearest to a place on the map, in pixels, or -1
  const u = unitX(x), v = unitY(y), r = reach / side();
  let best = -1, least = r * r;
  for (let row = grid.at(v - r); row <= grid.at(v + r); row++)
    for (let column = grid.at(u - r); column <= grid.at(u + r); column++)
      for (const i of grid.items[row * grid.cells + column]) {
        const distance = (data.points[2 * i] - u) ** 2 + (data.points[2 * i + 1] - v) ** 2;
        if (distance < least && visible[i]) { least = distance; best = i; }
      }
  return best;
}

// the map
const side = () => 0.92 * view.zoom * Math.min(map.clientWidth, map.clientHeight);  // of the unit square, pixels
const screenX = i => map.clientWidth / 2 + (data.points[2 * i] - view.x) * side();
const screenY = i => map.clientHeight / 2 + (data.points[2 * i + 1] - view.y) * side();
const unitX = x => view.x + (x - map.clientWidth / 2) / side();
const unitY = y => view.y + (y - map.clientHeight / 2) / side();

function polygon(corners, turn, size = 1.1, inner = size) {
  return Array.from({length: corners}, (_, i) => {
    const angle = turn + 2 * Math.PI * i / corners, radius = i & 1 ? inner : size;
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
}

function sprite(style, hollow, radius) {  // a small canvas with one mark, radius in device pixels
  const canvas = document.createElement('canvas'), middle = Math.ceil(radius * 1.5) + 1;
  canvas.width = canvas.height = 2 * middle;
  const context = canvas.getContext('2d'), colours = theme.dark ? DARK : LIGHT;
  const corners = SHAPES[style < 0 ? 0 : (style + Math.floor(style / 8)) % 8], size = style < 0 ? 0.75 * radius : radius;
  context.translate(middle, middle);
  for (const [x, y] of corners) context.lineTo(x * size, y * size);
  context.closePath();
  context.fillStyle = context.strokeStyle = style < 0 ? theme.grey : colours[style % 8];
  context.lineWidth = Math.max(1, radius * 0.45);
  if (hollow) context.stroke();
  else context.fill();
  return canvas;
}

function drawMap() {
  const started = performance.now(), ratio = fit(map), context = map.getContext('2d');
  const spread = Math.sqrt(map.clientWidth * map.clientHeight / N);  // pixels between neighbouring marks
  const radius = ratio * Math.min(7, Math.max(1.6, 0.32 * spread) * view.zoom ** 0.4);
  styles = new Map([-1, ...ticked.keys()].map(style => [style, [0, 1].map(right => sprite(style, !right, radius))]));
  const styleOf = new Int32Array(data.classes.length).fill(-1);
  ticked.forEach((label, style) => { styleOf[label] = style; });
  context.clearRect(0, 0, map.width, map.height);
  const size = side() * ratio, x = map.width / 2 - view.x * size, y = map.height / 2 - view.y * size;
  for (const coloured of [false, true])  // grey ones below
    for (let i = 0; i < N; i++) {
      const style = styleOf[data.label[i]];
      if (!visible[i] || (style >= 0) !== coloured) continue;
      const left = x + data.points[2 * i] * size, top = y + data.points[2 * i + 1] * size;
      if (left < -20 || top < -20 || left > map.width + 20 || top > map.height + 20) continue;
      const mark = styles.get(style)[data.right[i]];
      context.drawImage(mark, Math.round(left - mark.width / 2), Math.round(top - mark.height / 2));
    }
  stale = false;
  times.map.push(performance.now() - started);
}

function drawOverlay() {  // rings around the clips that play, lines to the neighbours
  const ratio = fit(overlay), context = overlay.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, overlay.width, overlay.height);
  const ring = (i, radius, width, from = -1) => {
    context.lineWidth = width;
    context.beginPath();
    if (from >= 0) context.moveTo(screenX(from), screenY(from));
    context.lineTo(screenX(i) + radius, screenY(i));
    context.arc(screenX(i), screenY(i), radius, 0, 7);
    context.stroke();
  };
  context.strokeStyle = theme.text;
  if (selected >= 0) {
    for (const other of neighboursOf(selected)) ring(other, 7, 1.5, selected);
    ring(selected, 10, 3);
  }
  if (hovered >= 0) ring(hovered, 9, 2);
}

function fit(canvas) {  // the canvas to its size on the screen; device pixels per pixel
  const ratio = Math.min(2, devicePixelRatio || 1);
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  return ratio;
}

function zoomAt(x, y, factor) {
  const u = unitX(x), v = unitY(y);
  view.zoom = Math.min(200, Math.max(0.5, view.zoom * factor));
  view.x += u - unitX(x);
  view.y += v - unitY(y);
  stale = true;
}

// skeletons
const neighboursOf = i => data.neighbours.subarray(i * data.k, (i + 1) * data.k);
const current = () => hovered >= 0 ? hovered : selected;

function drawSkeleton(canvas, i, seconds) {
  const ratio = fit(canvas), context = canvas.getContext('2d'), {poses, parents, frames} = data;
  context.clearRect(0, 0, canvas.width, canvas.height);
  const duration = Math.min(6, Math.max(1, data.num_frames[i] / 30));
  const time = seconds % duration / duration * (frames - 1), frame = Math.floor(time), part = time - frame;
  const scale = 0.9 * canvas.width / 256;
  for (let body = 0; body < data.bodies[i]; body++) {
    const first = data.first[i] + body * 2 * parents.length * frames + frame;
    const place = row => {
      const a = poses[first + row * frames], b = poses[first + row * frames + 1];
      return canvas.width / 2 + scale * ((a && b ? a + (b - a) * part : a || b) - 128);
    };
    if (!poses[first] && !poses[first + 1]) continue;  // a body that is not there
    context.strokeStyle = body ? theme.body1 : theme.body0;
    context.lineWidth = 2 * ratio;
    context.setLineDash(body ? [4 * ratio, 2 * ratio] : []);
    context.beginPath();
    parents.forEach((parent, joint) => {
      context.moveTo(place(joint), place(parents.length + joint));
      context.lineTo(place(parent), place(parents.length + parent));
    });
    context.stroke();
  }
}

function line(parent, text, tag = 'div') {
  const element = document.createElement(tag);
  element.textContent = text;
  return parent.appendChild(element);
}

function describe() {
  const i = current(), info = $('info');
  info.replaceChildren();
  if (i < 0) { line(info, 'Point at a clip, or tap one'); return; }
  line(info, data.classes[data.label[i]]);
  line(info, data.names[i]);
  const performer = data.performers[i] === null ? '' : `performer ${data.performers[i]}, `;
  line(info, `${performer}${data.num_frames[i]} frames, ${data.train[i] ? 'train' : 'val'}`);
  const nearest = data.classes[data.label[data.neighbours[i * data.k]]];
  line(info, data.right[i] ? '✓ nearest neighbour has its class' : `✗ nearest neighbour: ${nearest}`);
}

function select(i) {
  selected = i;
  hovered = -1;
  $('near').hidden = i < 0;
  $('neighbours').replaceChildren();
  cards = [];
  if (i >= 0) {
    $('near-title').textContent = `Nearest to ${data.classes[data.label[i]]}, ${data.names[i]}`;
    neighboursOf(i).forEach((other, rank) => {
      const card = line($('neighbours'), '', 'button'), same = data.label[other] === data.label[i];
      card.className = same ? 'right' : 'wrong';
      cards.push([card.appendChild(document.createElement('canvas')), other]);
      line(card, `${same ? '✓' : '✗'} ${data.classes[data.label[other]]}`, 'b');
      line(card, `cosine ${data.similarity[i * data.k + rank].toFixed(3)}`, 'span');
      card.title = data.names[other];
      card.onclick = () => select(other);
    });
    const x = screenX(i), y = screenY(i);
    if (x < 0 || y < 0 || x > map.clientWidth || y > map.clientHeight) {
      [view.x, view.y] = data.points.subarray(2 * i, 2 * i + 2);
      stale = true;
    }
  }
  describe();
}

function hover(i) {
  if (i === hovered) return;
  asked = performance.now();
  hovered = i;
  describe();
}

function tick(now) {
  if (stale) drawMap();
  drawOverlay();
  const i = current();
  if (i >= 0) drawSkeleton($('player'), i, now / 1000);
  else $('player').getContext('2d').clearRect(0, 0, $('player').width, $('player').height);
  for (const [canvas, other] of cards) drawSkeleton(canvas, other, now / 1000);
  if (asked) { times.hover.push(performance.now() - asked); asked = 0; }
  requestAnimationFrame(tick);
}

// filters and search
function applyFilters() {
  const [performer, outcome, split] = ['performer', 'outcome', 'split'].map(id => $(id).value);
  const only = $('only').checked, shown = new Set(ticked);
  let count = 0, right = 0;
  for (let i = 0; i < N; i++) {
    visible[i] = (!performer || data.performers[i] === +performer) && (!outcome || data.right[i] === +outcome)
      && (!split || data.train[i] === +split) && (!only || shown.has(data.label[i]));
    count += visible[i];
    right += visible[i] && data.right[i];
  }
  $('count').textContent = count ? `${count.toLocaleString('en')} of ${N.toLocaleString('en')} clips, `
    + `${(100 * right / count).toFixed(1)} % with a nearest neighbour of their class` : 'No clip passes the filters.';
  if (hovered >= 0 && !visible[hovered]) hover(-1);
  stale = true;
}

function tickClasses(classes) {
  ticked = classes;
  theme = readTheme();
  for (const label of $('classes').children) {
    const style = ticked.indexOf(+label.dataset.class), [box, swatch] = label.children;
    box.checked = style >= 0;
    const mark = sprite(style, false, 10);
    swatch.width = swatch.height = mark.width;
    swatch.getContext('2d').drawImage(mark, 0, 0);
  }
  applyFilters();
}

function readTheme() {
  const style = getComputedStyle(document.documentElement), colour = name => style.getPropertyValue(`--${name}`).trim();
  const [text, grey, body0, body1] = ['text', 'grey', 'body0', 'body1'].map(colour);
  return {dark: matchMedia('(prefers-color-scheme: dark)').matches, text, grey, body0, body1};
}

function search() {
  const words = $('search').value.trim().toLowerCase(), results = $('results');
  let found = 0, matches = 0;
  results.replaceChildren();
  if (!words) return;
  const add = (text, action) => { line(results, text, 'button').onclick = action; };
  data.classes.forEach((name, label) => {
    if (!data.counts[label] || !name.toLowerCase().includes(words)) return;
    if (++found <= 4) add(`class ${name} (${data.counts[label]} clips)`, () => tickClasses([label]));
  });
  data.names.forEach((name, i) => {
    if (name.toLowerCase().includes(words) && ++matches <= 6) add(name, () => select(i));
  });
  line(results, `${found} classes and ${matches} clips match`, 'p');
}

function build() {
  const right = data.right.reduce((sum, value) => sum + value, 0), train = data.train.reduce((sum, v) => sum + v, 0);
  const among = train ? `the ${train.toLocaleString('en')} training clips here` : 'the clips here';
  $('summary').textContent = `${N.toLocaleString('en')} clips by ${data.map === 'pca' ? 'PCA' : 't-SNE'}; `
    + `${(100 * right / N).toFixed(1)} % have the class of their nearest neighbour (by cosine, among ${among} but not itself)`;
  const performers = [...new Set(data.performers)].filter(value => value !== null).sort((a, b) => a - b);
  for (const performer of performers) line($('performer'), performer, 'option').value = performer;
  $('performer').parentElement.hidden = performers.length < 2;
  $('split').parentElement.hidden = !train || train === N;
  const present = data.classes.map((_, label) => label).filter(label => data.counts[label]);
  for (const label of present) {
    const row = line($('classes'), '', 'label'), box = row.appendChild(document.createElement('input'));
    row.dataset.class = label;
    box.type = 'checkbox';
    box.onchange = () => tickClasses(box.checked ? [...ticked, label] : ticked.filter(other => other !== label));
    row.appendChild(document.createElement('canvas'));
    line(row, `${data.classes[label]} (${data.counts[label]})`, 'span');
  }
  for (const id of ['performer', 'outcome', 'split', 'only']) $(id).onchange = applyFilters;
  $('every').onclick = () => tickClasses(present);
  $('none').onclick = () => tickClasses([]);
  $('search').oninput = search;
  $('search').onkeydown = event => { if (event.key === 'Enter') $('results').querySelector('button')?.click(); };
  tickClasses(present.length <= 10 ? present : present.slice(0, COLOURED_AT_FIRST));
  describe();
}

// mouse, touch and keys
function listen() {
  const down = new Map(), place = event => [event.offsetX, event.offsetY];
  let moved = 0;
  map.onpointerdown = event => {
    if (event.isTrusted) map.setPointerCapture(event.pointerId);
    if (!down.size) moved = 0;
    down.set(event.pointerId, place(event));
  };
  map.onpointermove = event => {
    const [x, y] = place(event), before = down.get(event.pointerId);
    if (!before) { hover(nearestTo(x, y, 14)); return; }
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    moved += Math.hypot(x - before[0], y - before[1]) + (other ? 9 : 0);
    const apart = ([a, b]) => Math.max(1, Math.hypot(a - other[0], b - other[1]));
    if (other) zoomAt(...other, apart([x, y]) / apart(before));
    else if (moved > 4) { view.x -= (x - before[0]) / side(); view.y -= (y - before[1]) / side(); stale = true; }
    down.set(event.pointerId, [x, y]);
  };
  map.onpointerup = event => {
    const reach = event.pointerType === 'touch' ? 24 : 14;
    if (down.delete(event.pointerId) && moved <= 4) select(nearestTo(...place(event), reach));
  };
  map.onpointercancel = event => down.delete(event.pointerId);
  map.onpointerleave = () => hover(-1);
  map.addEventListener('wheel', event => {
    event.preventDefault();
    zoomAt(...place(event), Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)));
  }, {passive: false});
  const zoom = factor => zoomAt(map.clientWidth / 2, map.clientHeight / 2, factor);
  const whole = () => { view = {zoom: 1, x: 0.5, y: 0.5}; stale = true; };
  [$('closer').onclick, $('wider').onclick, $('whole').onclick] = [() => zoom(1.5), () => zoom(1 / 1.5), whole];
  const keys = {'+': () => zoom(1.5), '=': () => zoom(1.5), '-': () => zoom(1 / 1.5), '0': whole,
    '/': () => $('search').focus(), ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0),
    ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1)};
  addEventListener('keydown', event => {
    if (event.key === 'Escape') {
      $('search').value = '';
      search();
      select(-1);
      map.focus();
    } else if (keys[event.key] && !/INPUT|SELECT/.test(event.target.tagName) && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  new ResizeObserver(() => { stale = true; }).observe(map);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => tickClasses(ticked));
}

function step(dx, dy) {  // to the visible clip that is nearest in this direction
  const from = current(), [u, v] = from < 0 ? [view.x - dx, view.y - dy] : data.points.subarray(2 * from);
  let best = -1, least = Infinity;
  for (let i = 0; i < N; i++) {
    const x = data.points[2 * i] - u, y = data.points[2 * i + 1] - v, along = x * dx + y * dy;
    const cost = along + 3 * Math.abs(x * dy + y * dx);
    if (visible[i] && i !== from && along > 0 && cost < least) { least = cost; best = i; }
  }
  if (best >= 0) select(best);
}

async function selfTest() {  // of explorer.html#test: what it saw and its timings go into the element #test
  const frame = () => new Promise(requestAnimationFrame), box = map.getBoundingClientRect(), seen = {clips: N};
  const send = (type, x, y, more) => map.dispatchEvent(new (type === 'wheel' ? WheelEvent : PointerEvent)(
    type, {clientX: x + box.left, clientY: y + box.top, pointerId: 90, cancelable: true, ...more}));
  const pixels = canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const changed = async canvas => {
    const before = pixels(canvas);
    for (let wait = 0; wait < 15; wait++) await frame();
    return pixels(canvas).reduce((sum, value, k) => sum + (value !== before[k]), 0);
  };
  const press = (target, key) => target.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  const summary = values => ['median', 'worst'].map((name, k) =>
    `${name} ${values.sort((a, b) => a - b)[k ? values.length - 1 : values.length >> 1].toFixed(1)} ms`).join(', ');
  for (let n = 0; n < 20; n++) {
    const i = Math.floor(n * N / 20);
    send('pointermove', screenX(i), screenY(i));
    await frame();
  }
  seen.hovered = data.names[hovered];
  seen.hoverChanged = await changed($('player'));
  seen.hoverToFrame = summary(times.hover);
  $('outcome').value = '0';
  $('outcome').onchange();
  seen.filtered = visible.reduce((sum, value) => sum + value, 0);
  $('outcome').value = '';
  $('outcome').onchange();
  for (const type of ['pointerdown', 'pointerup']) send(type, screenX(N - 1), screenY(N - 1));
  seen.selected = data.names[selected];
  seen.neighbours = cards.map(([, other]) => data.names[other]);
  await frame();
  seen.neighbourChanged = await changed(cards[0][0]);
  $('neighbours').firstChild.click();
  seen.neighbourClicked = data.names[selected];
  press(map, 'ArrowRight');
  seen.arrow = data.names[selected];
  $('search').value = data.names[0];
  search();
  press($('search'), 'Enter');
  seen.searched = data.names[selected];
  press(map, 'Escape');
  seen.cleared = selected === -1 && !$('results').children.length;
  const intervals = [];
  times.map = [];
  send('pointerdown', 100, 100);
  for (let n = 0, last = await frame(); n < 60; n++) {
    if (n < 30) send('pointermove', 100 + 3 * n, 100 + 2 * n);
    else send('wheel', 200, 200, {deltaY: n < 45 ? -100 : 100});
    const now = await frame();
    intervals.push(now - last);
    last = now;
  }
  send('pointercancel', 0, 0);
  seen.mapDrawn = summary(times.map);
  seen.mapInterval = summary(intervals);
  send('pointerdown', 100, 100, {pointerType: 'touch'});
  send('pointerdown', 200, 100, {pointerType: 'touch', pointerId: 91});
  const before = view.zoom;
  send('pointermove', 300, 100, {pointerType: 'touch', pointerId: 91});
  seen.pinch = view.zoom / before;
  $('test').hidden = false;
  $('test').textContent = JSON.stringify({...seen, errors}, null, 1);
}

async function start() {
  [map, overlay, theme] = [$('map'), $('overlay'), readTheme()];
  const started = performance.now();
  try {
    await load();
  } catch (error) {
    $('summary').textContent = `This browser cannot unpack the page (${error}): use a version from 2023 or later`;
    throw error;
  }
  times.load = performance.now() - started;
  build();
  listen();
  requestAnimationFrame(tick);
  if (location.hash === '#test') await selfTest();
}

start();
