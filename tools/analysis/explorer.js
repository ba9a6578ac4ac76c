'use strict';
// The page of tools.analysis.explorer. The command that writes it puts the data into the element #data.

const $ = id => document.getElementById(id), map = $('map'), overlay = $('overlay');
const errors = [];
addEventListener('error', event => errors.push(event.message));

const SHAPES = [polygon(40, 0, 1), polygon(4, 0.785), polygon(3, -1.571), polygon(4, 0, 1.2), polygon(3, 1.571),
  polygon(10, -1.571, 1.3, 0.55), polygon(8, 0, 1.35, 0.45), polygon(8, 0.785, 1.35, 0.45)];
const MARGIN = 50;  // device pixels around the map, for marks that are partly outside

let data, N, theme, stamps = {};
let grid;                                // clips by cell of the map, so that the nearest is found fast
let visible, ticked = [];                // of clips; classes in the order in which they were ticked
let view = {zoom: 1, x: 0.5, y: 0.5};    // the point of the unit square in the middle of the map
let hovered = -1, selected = -1, stale = true, cards = [];
const times = {hover: [], map: [], frame: []};  // milliseconds, for the test

async function unpack(text, Type) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  const buffer = await new Response(stream).arrayBuffer();
  return Type ? new Type(buffer) : JSON.parse(new TextDecoder().decode(buffer));
}

async function load() {
  const packed = JSON.parse($('data').textContent);
  data = await unpack(packed.about);
  const types = {points: Float32Array, label: Uint16Array, train: Uint8Array, right: Uint8Array,
    num_frames: Uint32Array, neighbours: Uint32Array, cosine: Float32Array, bodies: Uint8Array, poses: Uint8Array};
  for (const [name, type] of Object.entries(types)) data[name] = await unpack(packed[name], type);
  N = data.label.length;
  const {poses, frames} = data;
  for (let row = 0; row < poses.length; row += frames)  // differences to bytes
    for (let t = 1; t < frames; t++) poses[row + t] += poses[row + t - 1];
  data.first = new Uint32Array(N);  // where a clip's poses begin
  for (let i = 1; i < N; i++) data.first[i] = data.first[i - 1] + data.bodies[i - 1] * 2 * data.parents.length * frames;
  const cells = Math.ceil(Math.sqrt(N / 4)), at = u => Math.min(cells - 1, Math.max(0, Math.floor(u * cells)));
  grid = {cells, at, items: Array.from({length: cells * cells}, () => [])};
  for (let i = 0; i < N; i++) grid.items[at(data.points[2 * i + 1]) * cells + at(data.points[2 * i])].push(i);
  visible = new Uint8Array(N).fill(1);
}

function nearestTo(x, y, reach) {  // the visible clip nearest to a place on the map, in pixels, or -1
  const u = unitX(x), v = unitY(y), r = reach / side();
  let best = -1, least = r * r;
  for (let row = grid.at(v - r); row <= grid.at(v + r); row++)
    for (let column = grid.at(u - r); column <= grid.at(u + r); column++)
      for (const i of grid.items[row * grid.cells + column]) {
        const distance = (data.points[2 * i] - u) ** 2 + (data.points[2 * i + 1] - v) ** 2;
        if (distance < least && visible[i]) [least, best] = [distance, i];
      }
  return best;
}

const side = () => 0.92 * view.zoom * Math.min(map.clientWidth, map.clientHeight);  // of the unit square, pixels
const screenX = i => map.clientWidth / 2 + (data.points[2 * i] - view.x) * side();
const screenY = i => map.clientHeight / 2 + (data.points[2 * i + 1] - view.y) * side();
const unitX = x => view.x + (x - map.clientWidth / 2) / side();
const unitY = y => view.y + (y - map.clientHeight / 2) / side();

function polygon(corners, turn, size = 1.15, inner = size) {
  return Array.from({length: corners}, (_, i) => {
    const angle = turn + 2 * Math.PI * i / corners, radius = i & 1 ? inner : size;
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
}

function sprite(style, hollow, radius, back = 'transparent') {  // a canvas with one mark; radius in device pixels
  const size = 2 * Math.ceil(radius * 1.5) + 3;
  const canvas = Object.assign(document.createElement('canvas'), {width: size, height: size});
  const context = canvas.getContext('2d', {willReadFrequently: true}), grey = style < 0;  // a class that is not ticked
  context.fillStyle = back;
  context.fillRect(0, 0, size, size);
  const corners = SHAPES[grey ? 0 : (style + Math.floor(style / 8)) % 8], scale = grey ? 0.75 * radius : radius;
  for (const [x, y] of corners) context.lineTo(size / 2 + x * scale, size / 2 + y * scale);
  context.closePath();
  context.fillStyle = context.strokeStyle = grey ? theme.grey : theme.marks.split(' ')[style % 8];
  context.lineWidth = Math.max(1, radius * 0.45);
  context[hollow ? 'stroke' : 'fill']();
  return canvas;
}

function stamp(canvas, width) {  // the pixels of a sprite, as offsets and colours in an image with rows of `width`
  const size = canvas.width, half = size >> 1, image = canvas.getContext('2d').getImageData(0, 0, size, size);
  const pixels = new Uint32Array(image.data.buffer), marked = [...pixels.keys()].filter(k => pixels[k] !== pixels[0]);
  return {offsets: marked.map(k => (Math.floor(k / size) - half) * width + k % size - half),
    colours: marked.map(k => pixels[k])};
}

function drawMap() {  // pixel by pixel, which is faster than drawing 20,000 sprites
  const started = performance.now(), ratio = fit(map), spread = Math.sqrt(map.clientWidth * map.clientHeight / N);
  const radius = Math.round(2 * ratio * Math.min(7, Math.max(1.6, 0.32 * spread) * view.zoom ** 0.4)) / 2;
  const width = map.width + 2 * MARGIN, height = map.height + 2 * MARGIN, key = [width, height, radius].join();
  if (stamps.key !== key) {
    const mark = (style, hollow) => stamp(sprite(style, hollow, radius, theme.back), width);
    const marks = [-1, ...ticked.keys()].map(style => [mark(style, true), mark(style, false)]);
    stamps = {key, marks, image: new ImageData(width, height), styleOf: new Int32Array(data.classes.length)};
    ticked.forEach((label, style) => { stamps.styleOf[label] = style + 1; });
  }
  const pixels = new Uint32Array(stamps.image.data.buffer).fill(0), size = side() * ratio;
  const x = MARGIN + map.width / 2 - view.x * size, y = MARGIN + map.height / 2 - view.y * size;
  for (const coloured of [false, true])  // grey ones below
    for (let i = 0; i < N; i++) {
      const style = stamps.styleOf[data.label[i]];
      if (!visible[i] || style > 0 !== coloured) continue;
      const left = Math.round(x + data.points[2 * i] * size), top = Math.round(y + data.points[2 * i + 1] * size);
      if (left < 30 || top < 30 || left > width - 30 || top > height - 30) continue;
      const {offsets, colours} = stamps.marks[style][data.right[i]], place = top * width + left;
      for (let k = 0; k < offsets.length; k++) pixels[place + offsets[k]] = colours[k];
    }
  map.getContext('2d').putImageData(stamps.image, -MARGIN, -MARGIN);
  stale = false;
  times.map.push(performance.now() - started);
}

function drawOverlay() {  // rings around the clips that play, lines to the neighbours
  const ratio = fit(overlay), context = overlay.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, overlay.width, overlay.height);
  context.strokeStyle = theme.text;
  const ring = (i, radius, width, from = i) => {
    context.lineWidth = width;
    context.beginPath();
    if (from !== i) context.moveTo(screenX(from), screenY(from));
    context.lineTo(screenX(i) + radius, screenY(i));
    context.arc(screenX(i), screenY(i), radius, 0, 7);
    context.stroke();
  };
  for (const [, other] of cards) ring(other, 7, 1.5, selected);
  if (selected >= 0) ring(selected, 10, 3);
  if (hovered >= 0) ring(hovered, 9, 2);
}

function fit(canvas) {  // the canvas to its size on the screen; returns device pixels per pixel
  const ratio = Math.min(2, devicePixelRatio || 1);
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  return ratio;
}

function look(x, y, zoom = view.zoom) {
  view = {x, y, zoom: Math.min(200, Math.max(0.5, zoom))};
  stale = true;
}

function zoomBy(factor, x = map.clientWidth / 2, y = map.clientHeight / 2) {
  const u = unitX(x), v = unitY(y);
  look(view.x, view.y, view.zoom * factor);
  look(view.x + u - unitX(x), view.y + v - unitY(y));
}

const current = () => hovered >= 0 ? hovered : selected;

function drawSkeleton(canvas, i, seconds) {  // of clip i, or nothing for -1
  const ratio = fit(canvas), context = canvas.getContext('2d'), {poses, parents, frames} = data;
  context.clearRect(0, 0, canvas.width, canvas.height);
  const duration = Math.min(6, Math.max(1, data.num_frames[i] / 30)), scale = 0.9 * canvas.width / 256;
  const time = seconds % duration / duration * (frames - 1), frame = Math.floor(time), part = time - frame;
  for (let body = 0; body < data.bodies[i]; body++) {
    const first = data.first[i] + body * 2 * parents.length * frames + frame;
    const place = row => {
      const a = poses[first + row * frames], b = poses[first + row * frames + 1];
      return canvas.width / 2 + scale * ((a && b ? a + (b - a) * part : a || b) - 128);
    };
    if (!poses[first] && !poses[first + 1]) continue;  // this body is not there now
    Object.assign(context, {strokeStyle: body ? theme.body1 : theme.body0, lineWidth: 2 * ratio});
    context.setLineDash(body ? [4 * ratio, 2 * ratio] : []);
    context.beginPath();
    parents.forEach((parent, joint) => {
      context.moveTo(place(joint), place(parents.length + joint));
      context.lineTo(place(parent), place(parents.length + parent));
    });
    context.stroke();
  }
}

function line(parent, text, tag = 'div', action = null) {
  const element = document.createElement(tag);
  Object.assign(element, {textContent: text, onclick: action});
  return parent.appendChild(element);
}

function describe() {
  const i = current(), label = data.label[i];
  $('info').replaceChildren();
  for (const text of i < 0 ? ['Point at a clip, or tap one'] : [data.classes[label], data.names[i],
    (data.performers[i] === null ? '' : `performer ${data.performers[i]}, `)
      + `${data.num_frames[i]} frames, ${data.train[i] ? 'train' : 'val'}`,
    data.right[i] ? '✓ nearest training clip has its class' : `✗ nearest training clip: ${data.nearest[i]}`])
    line($('info'), text);
}

function select(i) {
  [selected, hovered, cards] = [i, -1, []];
  describe();
  $('near').hidden = i < 0;
  $('neighbours').replaceChildren();
  if (i < 0) return;
  $('near-title').textContent = `Nearest on this page to ${data.classes[data.label[i]]}, ${data.names[i]}`;
  data.neighbours.subarray(i * data.k, (i + 1) * data.k).forEach((other, rank) => {
    const same = data.label[other] === data.label[i], card = line($('neighbours'), '', 'button', () => select(other));
    Object.assign(card, {className: same ? 'right' : 'wrong', title: data.names[other]});
    cards.push([line(card, '', 'canvas'), other]);
    line(card, `${same ? '✓' : '✗'} ${data.classes[data.label[other]]}`, 'b');
    line(card, `cosine ${data.cosine[i * data.k + rank].toFixed(3)}`, 'span');
  });
  const outside = (place, size) => place < 0 || place > size;
  if (outside(screenX(i), map.clientWidth) || outside(screenY(i), map.clientHeight))
    look(data.points[2 * i], data.points[2 * i + 1]);
}

function hover(i) {
  if (i === hovered) return;
  hovered = i;
  describe();
}

function tick(now) {
  if (stale) drawMap();
  drawOverlay();
  for (const [canvas, i] of [[$('player'), current()], ...cards]) drawSkeleton(canvas, i, now / 1000);
  requestAnimationFrame(tick);
}

const sum = values => values.reduce((total, value) => total + value, 0);
const count = (number, what = 'clips') => `${number.toLocaleString('en')} ${what}`;

function applyFilters() {
  const [performer, outcome, split] = ['performer', 'outcome', 'split'].map(id => $(id).value);
  const only = $('only').checked && new Set(ticked);
  const passes = (value, wanted) => !wanted || value === +wanted;
  visible = visible.map((_, i) => passes(data.performers[i], performer) && passes(data.right[i], outcome)
    && passes(data.train[i], split) && (!only || only.has(data.label[i])));
  const shown = sum(visible), right = sum(visible.map((value, i) => value && data.right[i]));
  $('count').textContent = !shown ? 'No clip passes the filters.'
    : `${count(shown, 'of')} ${count(N)}; ${(100 * right / shown).toFixed(1)} % have the class of their nearest training clip`;
  stale = true;
}

function tickClasses(classes) {
  const style = getComputedStyle(document.documentElement), names = ['text', 'grey', 'back', 'body0', 'body1', 'marks'];
  theme = Object.fromEntries(names.map(name => [name, style.getPropertyValue(`--${name}`).trim()]));
  [ticked, stamps] = [classes, {}];
  for (const {dataset, children: [box, swatch]} of $('classes').children) {
    box.checked = ticked.includes(+dataset.class);
    swatch.replaceWith(sprite(ticked.indexOf(+dataset.class), false, 10));
  }
  applyFilters();
}

function search() {
  const words = $('search').value.trim().toLowerCase(), results = $('results');
  results.replaceChildren();
  if (!words) return;
  const matching = names => [...names.keys()].filter(i => names[i].toLowerCase().includes(words));
  const classes = matching(data.classes), clips = matching(data.names);
  for (const k of classes.slice(0, 4)) line(results, `class ${data.classes[k]}`, 'button', () => tickClasses([k]));
  for (const i of clips.slice(0, 6)) line(results, data.names[i], 'button', () => select(i));
  line(results, `${count(classes.length, 'classes')} and ${count(clips.length)} match`, 'p');
}

function build() {
  const train = sum(data.train), every = [...data.classes.keys()];
  const performers = [...new Set(data.performers)].filter(value => value !== null).sort((a, b) => a - b);
  for (const performer of performers) line($('performer'), performer, 'option').value = performer;
  $('performer').parentElement.hidden = performers.length < 2;
  $('split').parentElement.hidden = !train || train === N;
  for (const label of every) {
    const row = line($('classes'), '', 'label'), box = line(row, '', 'input');
    row.dataset.class = label;
    box.type = 'checkbox';
    box.onchange = () => tickClasses(box.checked ? [...ticked, label] : ticked.filter(other => other !== label));
    line(row, '', 'canvas');
    line(row, `${data.classes[label]} (${data.counts[label]})`, 'span');
  }
  for (const id of ['performer', 'outcome', 'split', 'only']) $(id).onchange = applyFilters;
  $('every').onclick = () => tickClasses(every);
  $('none').onclick = () => tickClasses([]);
  $('search').oninput = search;
  $('search').onkeydown = event => { if (event.key === 'Enter') $('results').querySelector('button')?.click(); };
  tickClasses(every.length <= 16 ? every : every.slice(0, 8));
  describe();
}

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
    if (!before) return hover(nearestTo(x, y, 20));
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    const apart = ([a, b]) => Math.max(1, Math.hypot(a - other[0], b - other[1]));
    moved += Math.hypot(x - before[0], y - before[1]);
    if (other) zoomBy(apart([x, y]) / apart(before), ...other);
    else if (moved > 4) look(view.x - (x - before[0]) / side(), view.y - (y - before[1]) / side());
    return down.set(event.pointerId, [x, y]);
  };
  map.onpointerup = event => {
    if (down.delete(event.pointerId) && moved <= 4) select(nearestTo(...place(event), 20));
  };
  map.onpointercancel = event => down.delete(event.pointerId);
  map.onpointerleave = () => hover(-1);
  map.onwheel = event => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), ...place(event));
  };
  const clear = () => {
    $('search').value = '';
    search();
    select(-1);
    map.focus({preventScroll: true});
  };
  const keys = {'+': () => zoomBy(1.5), '-': () => zoomBy(1 / 1.5), '0': () => look(0.5, 0.5, 1),
    ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1), ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0),
    '/': () => $('search').focus(), Escape: clear};
  [$('closer').onclick, $('wider').onclick, $('whole').onclick] = [keys['+'], keys['-'], keys['0']];
  document.onkeydown = event => {
    const typing = /INPUT|SELECT/.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey;
    if (!keys[event.key] || typing && event.key !== 'Escape') return;
    event.preventDefault();
    keys[event.key]();
  };
  new ResizeObserver(() => { stale = true; }).observe(map);
  matchMedia('(prefers-color-scheme: dark)').onchange = () => tickClasses(ticked);
}

function step(dx, dy) {  // to the visible clip that is nearest in this direction
  const from = current(), [u, v] = from < 0 ? [view.x, view.y] : data.points.subarray(2 * from);
  const cost = i => {
    const x = data.points[2 * i] - u, y = data.points[2 * i + 1] - v, along = x * dx + y * dy;
    return visible[i] && along > 0 ? along + 3 * Math.abs(x * dy + y * dx) : Infinity;
  };
  const best = data.label.reduce((least, _, i) => cost(i) < cost(least) ? i : least, 0);
  if (cost(best) < Infinity) select(best);
}

async function selfTest() {  // of explorer.html#test: what the page saw, and timings, for its element #test
  const frame = () => new Promise(requestAnimationFrame), box = map.getBoundingClientRect(), seen = {clips: N};
  const send = (type, x, y, more) => map.dispatchEvent(new (type === 'wheel' ? WheelEvent : PointerEvent)(
    type, {clientX: x + box.left, clientY: y + box.top, pointerId: 90, ...more}));
  const act = (name, action) => { action(); seen[name] = data.names[selected]; };
  const changed = async canvas => {  // numbers in the picture that differ a quarter of a second later
    const pixels = () => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    await frame();
    const before = pixels();
    for (let wait = 0; wait < 15; wait++) await frame();
    return pixels().reduce((total, value, k) => total + (value !== before[k]), 0);
  };
  const summary = values => values.sort((a, b) => a - b)
    && `median ${values[values.length >> 1].toFixed(1)} ms, worst ${values.at(-1).toFixed(1)} ms`;
  for (let i = 0; i < N; i += Math.ceil(N / 20)) {
    const sent = performance.now();
    send('pointermove', screenX(i), screenY(i));
    await frame();
    times.hover.push(performance.now() - sent);
  }
  Object.assign(seen, {hovered: data.names[hovered], hoverChanged: await changed($('player'))});
  for (const [value, name] of [['0', 'wrong'], ['', 'shown']]) {
    $('outcome').value = value;
    $('outcome').onchange();
    seen[name] = sum(visible);
  }
  act('clicked', () => ['pointerdown', 'pointerup'].forEach(type => send(type, screenX(N - 1), screenY(N - 1))));
  Object.assign(seen, {neighbours: cards.map(([, i]) => data.names[i]), cardChanged: await changed(cards[0][0])});
  act('neighbour', () => $('neighbours').firstChild.click());
  [$('search').value] = data.names;
  search();
  act('searched', () => $('results').firstChild.click());
  send('pointerdown', 100, 100);
  for (let n = 0, last = await frame(), now; n < 60; n++, last = now) {
    if (n < 30) send('pointermove', 100 + 3 * n, 100 + 2 * n);
    else send('wheel', 200, 200, {deltaY: n < 45 ? -100 : 100});
    now = await frame();
    times.frame.push(now - last);
  }
  for (const [name, values] of Object.entries(times)) seen[`${name} time`] = summary(values);
  $('test').hidden = false;
  $('test').textContent = JSON.stringify({...seen, errors}, null, 1);
}

async function start() {
  await load();
  build();
  listen();
  requestAnimationFrame(tick);
  times.load = [performance.now()];
  if (location.hash === '#test') await selfTest();
}

start().catch(error => {
  $('summary').textContent = $('test').textContent = `This browser cannot show the page: ${error}`;
});
