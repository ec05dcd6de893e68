// The viewer: draws frames and objects on canvases, and tells Python what is done. Everything it knows comes in
// props.value; pictures come from addresses that hold the token of the clip.
const $ = (name) => element.querySelector('.gv-' + name);
const root = element.querySelector('.gv');
const input = $('input'), result = $('result'), slider = $('frame');
const at = { frame: 0, token: null, chosen: 1, strokes: [], line: null, cross: null, timer: 0, drawn: 0, busy: false,
  pending: [] };
const pictures = new Map();
const MOST = 60; // pictures that are kept

const clip = () => props.value || {};
const tool = () => element.querySelector('input[name=gv-tool]:checked').value;
const paints = () => ['brush', 'erase', 'whole'].includes(tool());
const view = () => $('view').value || 'objects';
const address = (frame, name) =>
  `clip/${clip().token}/${frame}/${name}` + (name === 'input' ? '' : `?v=${clip().version}`);

function load(frame, name) {
  const url = address(frame, name);
  if (!pictures.has(url)) {
    if (pictures.size > MOST) pictures.delete(pictures.keys().next().value);
    pictures.set(url, new Promise((good, bad) => {
      const image = new Image();
      image.onload = () => good(image);
      image.onerror = () => { pictures.delete(url); bad(new Error(url)); };
      image.src = url;
    }));
  }
  return pictures.get(url);
}

function tinted(image, objects, strength) {
  const { width, height } = clip();
  const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext('2d', { willReadFrequently: true });
  pen.drawImage(image, 0, 0);
  const pixels = pen.getImageData(0, 0, width, height), data = pixels.data;
  const colors = new Map(objects.map((one) => [one.number, one.color]));
  const ids = new Uint8Array(width * height);
  for (let i = 0; i < ids.length; i++) ids[i] = data[4 * i];
  for (let i = 0; i < ids.length; i++) {
    const color = colors.get(ids[i]);
    if (!color) { data[4 * i + 3] = 0; continue; }
    const x = i % width;
    const edge = (x > 0 && ids[i - 1] !== ids[i]) || (x < width - 1 && ids[i + 1] !== ids[i])
      || (i >= width && ids[i - width] !== ids[i]) || (i + width < ids.length && ids[i + width] !== ids[i]);
    data.set(color, 4 * i);
    data[4 * i + 3] = edge ? Math.min(255, strength * 510) : strength * 255;
  }
  pen.putImageData(pixels, 0, 0);
  return canvas;
}

async function draw() {
  const { width, height, token, objects } = clip();
  if (!token) return;
  const number = ++at.drawn, frame = at.frame, name = view();
  try {
    const layer = { objects: 'objects', mask: 'objects' }[name] || name;
    const [frameImage, image] = await Promise.all([load(frame, 'input'), load(frame, layer)]);
    if (number !== at.drawn) return;
    for (const canvas of [input, result])
      if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    input.getContext('2d').drawImage(frameImage, 0, 0);
    const pen = result.getContext('2d');
    pen.imageSmoothingEnabled = false;
    if (layer !== 'objects') pen.drawImage(image, 0, 0, width, height);
    else {
      if (name === 'mask') { pen.fillStyle = '#000'; pen.fillRect(0, 0, width, height); } else pen.drawImage(frameImage, 0, 0);
      pen.drawImage(tinted(image, objects, name === 'mask' ? 1 : $('strength').querySelector('input').value / 100), 0, 0);
    }
    marks(pen);
    result.dataset.shown = `${frame}:${clip().version}:${name}`;
    if (frame + 1 < clip().frames) { load(frame + 1, 'input').catch(() => 0); load(frame + 1, layer).catch(() => 0); }
  } catch (error) { if (number === at.drawn) say('The picture did not come. Is the server still there?'); }
}

function marks(pen) {
  const unit = Math.max(1, clip().width / 400), why = clip().why;
  pen.lineWidth = 1.5 * unit;
  pen.lineCap = pen.lineJoin = 'round';
  if (why && why.frame === at.frame) {
    const ring = (x, y, radius, color) => {
      for (const [style, wide] of [['#000', 3.5], [color, 1.5]]) {
        pen.strokeStyle = style; pen.lineWidth = wide * unit; pen.beginPath(); pen.arc(x, y, radius, 0, 7); pen.stroke();
      }
    };
    if (why.seed) {
      pen.strokeStyle = '#fff'; pen.beginPath(); pen.moveTo(why.x, why.y); pen.lineTo(...why.seed); pen.stroke();
      ring(...why.seed, 5 * unit, '#ffe14a');
    }
    ring(why.x, why.y, 1.5 * unit, '#fff');
  }
  for (const mark of [...(clip().marks || []), ...at.pending]) if (mark.frame === at.frame) clicked(pen, mark, unit);
  if (at.strokes.length) {
    const own = clip().objects.find((one) => one.number === at.chosen);
    pen.strokeStyle = tool() === 'erase' ? 'rgb(0 0 0 / .6)' : `rgb(${own ? own.color : [255, 255, 255]} / .7)`;
    pen.lineWidth = 2 * brush();
    for (const line of at.strokes) {
      pen.beginPath(); pen.moveTo(...line[0]);
      for (const point of line) pen.lineTo(...point);
      pen.stroke();
    }
  }
  if (at.cross && document.activeElement === result) {
    const [x, y] = at.cross;
    for (const [style, wide] of [['#000', 3], ['#fff', 1]]) {
      pen.strokeStyle = style; pen.lineWidth = wide * unit; pen.beginPath();
      pen.moveTo(x - 8 * unit, y); pen.lineTo(x + 8 * unit, y); pen.moveTo(x, y - 8 * unit); pen.lineTo(x, y + 8 * unit);
      pen.stroke();
    }
  }
}

function clicked(pen, { x, y, owner }, unit) {
  const own = clip().objects.find((one) => one.number === owner), arm = 3.5 * unit;
  pen.fillStyle = own ? `rgb(${own.color})` : '#333'; pen.strokeStyle = '#fff'; pen.lineWidth = 1.5 * unit;
  pen.beginPath(); pen.arc(x, y, 7 * unit, 0, 7); pen.fill(); pen.stroke();
  pen.beginPath(); pen.moveTo(x - arm, y); pen.lineTo(x + arm, y);
  if (owner) { pen.moveTo(x, y - arm); pen.lineTo(x, y + arm); }
  pen.stroke();
}

const say = (text) => { $('said').textContent = text || ''; };
const brush = () => +$('brush').querySelector('input').value * clip().width / 600;

function tell(message) {
  if (at.busy) return;
  at.busy = true;
  root.setAttribute('aria-busy', 'true');
  setTimeout(() => { at.busy = false; }, 20000); // should the answer be lost
  trigger('act', message);
}

function go(frame) {
  const last = clip().frames - 1;
  if (at.strokes.length && frame !== at.frame) finish();
  at.frame = Math.max(0, Math.min(last, Math.round(frame)));
  slider.value = at.frame;
  $('at').textContent = `${at.frame + 1} / ${last + 1} · ${((clip().times || [])[at.frame] ?? 0).toFixed(2)} s`;
  slider.setAttribute('aria-valuetext', `frame ${at.frame + 1} of ${last + 1}`);
  const cursor = $('cursor');
  if (cursor) cursor.style.left = `${100 * (at.frame + 0.5) / (last + 1)}%`;
  draw();
  if ($('more').open) steps();
}

function steps() {
  $('steps').replaceChildren(...Object.entries(clip().steps || {}).map(([name, words]) => {
    const button = document.createElement('button'), image = new Image();
    button.type = 'button'; button.title = 'Show it large';
    image.alt = ''; image.src = address(at.frame, name);
    button.append(image, words);
    button.addEventListener('click', () => { $('view').value = name; draw(); result.scrollIntoView({ block: 'nearest' }); });
    return button;
  }));
}

function objects() {
  const list = clip().objects || [];
  if (!list.some((one) => one.number === at.chosen)) at.chosen = list.length ? list[0].number : 0;
  $('objects').replaceChildren(...list.map((one) => {
    const box = document.createElement('span'), pick = document.createElement('input');
    const name = document.createElement('input'), away = document.createElement('button');
    box.className = 'gv-object'; box.style.setProperty('--own', `rgb(${one.color})`);
    pick.type = 'radio'; pick.name = 'gv-object'; pick.checked = one.number === at.chosen;
    pick.setAttribute('aria-label', `Correct ${one.name}`);
    pick.addEventListener('change', () => { at.chosen = one.number; });
    name.type = 'text'; name.value = one.name; name.maxLength = 40; name.setAttribute('aria-label', 'Name');
    name.addEventListener('change', () => tell({ kind: 'rename', owner: one.number, name: name.value }));
    away.type = 'button'; away.textContent = '×'; away.setAttribute('aria-label', `Remove ${one.name}`);
    away.addEventListener('click', () => tell({ kind: 'remove', owner: one.number }));
    box.append(pick, name, away);
    return box;
  }));
}

function update() {
  const value = clip();
  at.busy = false;
  at.pending = [];
  root.removeAttribute('aria-busy');
  say(value.said);
  root.hidden = !value.token;
  if (!value.token) return;
  root.dataset.version = value.version;
  const fresh = value.token !== at.token;
  if (fresh) {
    Object.assign(at, { token: value.token, frame: 0, chosen: 1, strokes: [], cross: null });
    pictures.clear(); play(false);
    slider.max = value.frames - 1;
    const views = { objects: 'objects over the frame', mask: 'mask', probability: 'probability', confidence: 'confidence' };
    $('view').replaceChildren(...Object.entries({ ...views, ...value.steps }).map(([name, words]) => new Option(words, name)));
    $('command').querySelector('input').value = value.command;
    $('name').textContent = value.name;
    root.style.setProperty('--ratio', value.width / value.height);
  }
  if (value.chosen) { at.chosen = value.chosen; pickTool('add'); }
  $('files').replaceChildren(...Object.entries(value.files).map(([name, words]) => {
    const link = document.createElement('a');
    link.href = `clip/${value.token}/files/${value.version}/${name}`; link.download = '';
    link.append(Object.assign(document.createElement('b'), { textContent: name }), words);
    return link;
  }));
  $('undo').disabled = !value.undo;
  $('next').disabled = !value.unusual.length;
  objects();
  $('timeline').innerHTML = value.timeline + '<div class="gv-cursor"></div>';
  $('timeline').querySelector('figure').append($('cursor'));
  go(at.frame);
  if (fresh) setTimeout(() => root.scrollIntoView({ block: 'nearest' }), 300); // once what is above has closed
}

function pickTool(name) {
  element.querySelector(`input[name=gv-tool][value=${name}]`).checked = true;
  showTool();
}
function showTool() {
  $('reach').hidden = !['add', 'away'].includes(tool());
  $('brush').hidden = $('done').hidden = !paints();
  at.strokes = [];
  draw();
}

function place(event) {
  const box = result.getBoundingClientRect(), { width, height } = clip();
  const x = (event.clientX - box.left) / box.width * width, y = (event.clientY - box.top) / box.height * height;
  return [Math.max(0, Math.min(width - 0.01, x)), Math.max(0, Math.min(height - 0.01, y))];
}
function press([x, y]) {
  const owner = tool() === 'away' ? 0 : at.chosen;
  if (at.busy) return;
  if (tool() === 'why') tell({ kind: 'why', frame: at.frame, x, y });
  else if (!paints()) {
    at.pending = [{ frame: at.frame, x, y, owner }];
    tell({ kind: 'click', frame: at.frame, x, y, owner, reach: $('reach').querySelector('select').value });
    draw();
  }
}
function finish() {
  if (!at.strokes.length) return;
  const message = { kind: 'paint', frame: at.frame, strokes: at.strokes, radius: brush(), whole: tool() === 'whole' };
  at.strokes = [];
  tell({ ...message, owner: tool() === 'erase' ? 0 : at.chosen });
}
function play(on) {
  clearInterval(at.timer);
  at.timer = on ? setInterval(() => go((at.frame + 1) % clip().frames), 1000 / Math.min(25, clip().rate || 12)) : 0;
  $('play').querySelector('path').setAttribute('d', on ? 'M2 1h3v10H2zM7 1h3v10H7z' : 'M2 1v10l9-5z');
  $('play').setAttribute('aria-label', on ? 'Pause' : 'Play');
}

result.addEventListener('pointerdown', (event) => {
  if (event.button) return;
  result.focus({ preventScroll: true });
  at.cross = null;
  const point = place(event);
  if (!paints()) return press(point);
  event.preventDefault();
  result.setPointerCapture(event.pointerId);
  at.line = [point]; at.strokes.push(at.line); draw();
});
result.addEventListener('pointermove', (event) => { if (at.line) { at.line.push(place(event)); draw(); } });
result.addEventListener('pointerup', () => { at.line = null; if (tool() !== 'whole') finish(); });
result.addEventListener('pointercancel', () => { at.line = null; });
result.addEventListener('keydown', (event) => {
  const step = (event.shiftKey ? 1 : 8) * Math.max(1, clip().width / 400);
  const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
  const { width, height } = clip();
  if (move || event.key === 'Enter') at.cross ||= [width / 2, height / 2];
  if (move) {
    at.cross = [at.cross[0] + move[0], at.cross[1] + move[1]].map((v, i) => Math.max(0, Math.min([width, height][i] - 1, v)));
    draw();
  } else if (event.key === 'Enter') {
    if (paints()) { at.strokes.push([at.cross.slice()]); if (tool() !== 'whole') finish(); else draw(); } else press(at.cross);
  } else return;
  event.preventDefault(); event.stopPropagation();
});
result.addEventListener('blur', draw);
element.addEventListener('keydown', (event) => {
  if (event.target.matches('input[type=text], select') || event.ctrlKey || event.metaKey || event.altKey) return;
  const button = event.target.matches('button, summary, a, input[type=checkbox], input[type=radio]');
  if (event.key === ',') go(at.frame - 1);
  else if (event.key === '.') go(at.frame + 1);
  else if (event.key === ' ' && !button) play(!at.timer);
  else if (event.key === 'u') tell({ kind: 'undo' });
  else return;
  event.preventDefault();
});
slider.addEventListener('input', () => { play(false); go(+slider.value); });
$('play').addEventListener('click', () => play(!at.timer));
$('next').addEventListener('click', () => {
  const list = clip().unusual, next = list.find((one) => one.frame > at.frame) || list[0];
  play(false); go(next.frame); say(`From frame ${next.frame + 1}: ${next.said}.`);
});
$('timeline').addEventListener('click', (event) => {
  const box = $('timeline').querySelector('figure').getBoundingClientRect();
  play(false); go(Math.floor((event.clientX - box.left) / box.width * clip().frames));
});
for (const radio of element.querySelectorAll('input[name=gv-tool]')) radio.addEventListener('change', showTool);
$('strength').addEventListener('input', draw);
$('view').addEventListener('change', draw);
$('undo').addEventListener('click', () => tell({ kind: 'undo' }));
$('done').addEventListener('click', finish);
$('add').addEventListener('click', () => tell({ kind: 'add', name: '' }));
$('split').addEventListener('click', () => tell({ kind: 'split' }));
$('more').addEventListener('toggle', () => { if ($('more').open) steps(); });
$('two').addEventListener('change', () => { $('beside').hidden = !$('two').checked; });
$('command').querySelector('button').addEventListener('click', () => {
  const line = $('command').querySelector('input');
  line.select();
  navigator.clipboard?.writeText(line.value).then(() => say('Copied.'), () => document.execCommand('copy'));
});
if (matchMedia('(max-width: 700px)').matches) { $('two').checked = false; $('beside').hidden = true; }
play(false);
showTool();
watch('value', update);
update();
