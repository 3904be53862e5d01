// What stands in the 3D view: the ground, a figure where the subject is, the cameras with what they see, their paths,
// and the handles of the selected one. Metres, z up. Only what has changed is made anew; the rest is moved.

import {
  AmbientLight, BufferAttribute, BufferGeometry, CanvasTexture, CapsuleGeometry, CircleGeometry, Color, ConeGeometry,
  DirectionalLight, DoubleSide, Group, Line2, LineGeometry, LineMaterial, LineSegments2, LineSegmentsGeometry, Mesh,
  MeshBasicMaterial, MeshLambertMaterial, Scene, SphereGeometry, SRGBColorSpace, Vector3,
} from "./vendor/three.min.js";
import { drawnDepth, farthestOf, groundRings, keyTimes, pathOf, pictureCorners, poseAt } from "./geometry.js";
import { curvePoints, HANDLES } from "./rig_handles.js";

const PICTURE_WIDTH = 160; // pixels of each view that a frustum shows
const OUTLINE = [0, 1, 0, 2, 0, 3, 0, 4, 1, 2, 2, 3, 3, 4, 4, 1, 1, 5, 5, 2]; // edges: 0 the camera, 1-4 corners, 5 the roof

const circle = (radius, z) =>
  Array.from({ length: 97 }, (_, i) => [radius * Math.cos((i * Math.PI) / 48), radius * Math.sin((i * Math.PI) / 48), z]);

function line(points, material) {
  return new Line2(new LineGeometry().setPositions(points.flat()), material);
}

// A four-legged figure, a metre long, that stands on z = 0 and looks along x. Nothing of it is in the picture that a
// model makes: it says where the subject will be and which side is its front.
function makeFigure(material) {
  const figure = new Group();
  const part = (geometry, [x, y, z], turn = [0, 0, 0]) => {
    const mesh = new Mesh(geometry, material);
    mesh.position.set(x, y, z);
    mesh.rotation.set(...turn);
    figure.add(mesh);
  };
  part(new CapsuleGeometry(0.17, 0.5, 4, 12), [0, 0, 0.52], [0, 0, Math.PI / 2]);
  part(new CapsuleGeometry(0.08, 0.2, 3, 8), [0.38, 0, 0.68], [Math.PI / 2, 0, -0.9]);
  part(new SphereGeometry(0.15, 14, 10), [0.5, 0, 0.82]);
  part(new ConeGeometry(0.09, 0.24, 10), [0.67, 0, 0.79], [0, 0, -Math.PI / 2]);
  for (const side of [-1, 1]) {
    part(new ConeGeometry(0.05, 0.14, 6), [0.45, 0.09 * side, 0.98], [Math.PI / 2, 0, 0]);
    for (const x of [-0.27, 0.27]) part(new CapsuleGeometry(0.06, 0.32, 3, 8), [x, 0.11 * side, 0.22], [Math.PI / 2, 0, 0]);
  }
  part(new CapsuleGeometry(0.03, 0.22, 3, 6), [-0.5, 0, 0.66], [Math.PI / 2, 0, 0.9]);
  return figure;
}

// An arrow on the ground from the figure's nose on.
function makeArrow(material) {
  const points = [[0.95, 0.04], [1.35, 0.04], [1.35, 0.14], [1.65, 0], [1.35, -0.14], [1.35, -0.04], [0.95, -0.04]];
  const triangles = [0, 6, 5, 0, 5, 1, 2, 4, 3];
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(new Float32Array(triangles.flatMap((i) => [...points[i], 0.01])), 3));
  return new Mesh(geometry, material);
}

export class RigScene {
  constructor({ colours, groundZ }) {
    this.scene = new Scene();
    this.colours = colours;
    this.groundZ = groundZ;
    this.materials = {
      ground: new MeshBasicMaterial({ transparent: true, opacity: 0.55 }),
      ring: new LineMaterial({ linewidth: 1 }),
      subject: new MeshLambertMaterial(),
      arrow: new MeshBasicMaterial({ side: DoubleSide }),
      handle: new LineMaterial({ linewidth: 2.5, transparent: true, opacity: 0.9 }),
      held: new LineMaterial({ linewidth: 5 }),
      knob: new MeshBasicMaterial(),
    };
    const sun = new DirectionalLight(0xffffff, 2);
    sun.position.set(2, -3, 5);
    const figure = makeFigure(this.materials.subject);
    const arrow = makeArrow(this.materials.arrow);
    figure.position.z = arrow.position.z = groundZ;
    this.ground = new Group();
    this.handles = Object.fromEntries(
      Object.keys(HANDLES).map((name) => {
        const knobs = [-1, 1].map(() => new Mesh(new SphereGeometry(1, 12, 8), this.materials.knob));
        const curve = line([[0, 0, 0], [0, 0, 1]], this.materials.handle);
        this.scene.add(curve, ...knobs);
        return [name, { curve, knobs }];
      }),
    );
    this.cameras = [];
    this.scene.add(new AmbientLight(0xffffff, 1.6), sun, figure, arrow, this.ground);
  }

  // Colours from the page's css variables: they differ by theme.
  setColours(css) {
    const { materials } = this;
    for (const [name, material] of Object.entries(materials))
      material.color = new Color(css(`--stage-${{ held: "handle", knob: "handle" }[name] ?? name}`));
  }

  // The cameras at a time, each with its lens.
  update(cameras, lenses, time) {
    this.poses = cameras.map((entry) => poseAt(entry, time));
    const depth = drawnDepth(this.poses);
    this.showGround(farthestOf(cameras, time));
    while (this.cameras.length > cameras.length) this.scene.remove(...Object.values(this.cameras.pop().objects));
    cameras.forEach((entry, index) => {
      const camera = (this.cameras[index] ??= this.makeCamera(index));
      const { right, down, forward, position } = this.poses[index];
      const axes = [right, down, forward].map((axis) => axis.map((value) => value * depth));
      camera.objects.body.matrix.set(...[0, 1, 2].flatMap((i) => [axes[0][i], axes[1][i], axes[2][i], position[i]]), 0, 0, 0, 1);
      camera.objects.body.matrixWorldNeedsUpdate = true;
      camera.objects.foot.geometry.setPositions([...position, position[0], position[1], this.groundZ]);
      this.setLens(camera, lenses[index]);
      this.setPath(camera, entry);
    });
  }

  makeCamera(index) {
    const colour = this.colours[index % this.colours.length];
    const body = new Group();
    body.matrixAutoUpdate = false;
    const outline = new LineSegments2(new LineSegmentsGeometry(), new LineMaterial({ color: colour, linewidth: 2 }));
    const picture = new Mesh(new BufferGeometry(), new MeshBasicMaterial({ side: DoubleSide }));
    picture.visible = false;
    body.add(outline, picture);
    const thin = new LineMaterial({ color: colour, linewidth: 1, transparent: true, opacity: 0.5 });
    const foot = line([[0, 0, 0], [0, 0, 1]], thin);
    const path = new Group();
    path.visible = false;
    this.scene.add(body, foot, path);
    return { index, colour, outline, picture, objects: { body, foot, path }, lens: "", path: "" };
  }

  setLens(camera, lens) {
    const key = JSON.stringify(lens);
    if (camera.lens === key) return;
    camera.lens = key;
    const points = [[0, 0, 0], ...pictureCorners(lens)];
    camera.outline.geometry.dispose();
    camera.outline.geometry = new LineSegmentsGeometry().setPositions(OUTLINE.flatMap((i) => points[i]));
    camera.picture.geometry.setAttribute("position", new BufferAttribute(new Float32Array([1, 2, 3, 1, 3, 4].flatMap((i) => points[i])), 3));
  }

  // The way of a moving camera: a line, and a tick at each of its keys and at quarters of the clip.
  setPath(camera, entry) {
    const points = pathOf(entry);
    const key = points.length ? JSON.stringify(entry) : "";
    if (camera.path === key) return;
    camera.path = key;
    const group = camera.objects.path;
    for (const part of group.children) part.geometry.dispose();
    group.clear();
    group.visible = points.length > 0;
    if (!group.visible) return;
    const material = new LineMaterial({ color: camera.colour, linewidth: 2, transparent: true, opacity: 0.8 });
    const tick = (time, radius) => {
      const mesh = new Mesh(new SphereGeometry(radius, 8, 6), new MeshBasicMaterial({ color: camera.colour }));
      mesh.position.set(...poseAt(entry, time).position);
      return mesh;
    };
    group.add(line(points, material), ...[0.25, 0.5, 0.75].map((time) => tick(time, 0.03)));
    if ("keyframes" in entry) group.add(...keyTimes(entry).map((time) => tick(time, 0.065)));
  }

  select(index) {
    this.cameras.forEach((camera, i) => (camera.outline.material.linewidth = i === index ? 4 : 2));
  }

  showGround(farthest) {
    const radii = groundRings(farthest);
    if (String(radii) === String(this.radii)) return;
    this.radii = radii;
    for (const part of this.ground.children) part.geometry.dispose();
    this.ground.clear();
    const floor = new Mesh(new CircleGeometry(radii.at(-1) * 1.05, 96), this.materials.ground);
    floor.position.z = this.groundZ - 0.01;
    this.ground.add(floor, ...radii.map((radius) => line(circle(radius, this.groundZ), this.materials.ring)));
  }

  // The curves along which the selected camera can be pulled: none for a camera that is not aimed at the centre.
  showHandles(place, ranges, held, scale) {
    for (const name of Object.keys(HANDLES)) {
      const { curve, knobs } = this.handles[name];
      curve.visible = Boolean(place);
      for (const knob of knobs) knob.visible = Boolean(place);
      if (!place) continue;
      const { points, ends } = curvePoints(name, place, ranges[name]);
      curve.geometry.dispose();
      curve.geometry = new LineGeometry().setPositions(points.flat());
      curve.material = name === held ? this.materials.held : this.materials.handle;
      knobs.forEach((knob, i) => {
        knob.position.set(...ends[i]);
        knob.scale.setScalar(scale);
      });
    }
  }

  // The frame that the player shows, in each camera that stands where the result's camera stood.
  showPictures(player, shows) {
    const ready = Boolean(player?.ready());
    this.cameras.forEach((camera, index) => {
      const visible = ready && shows(index, JSON.parse(camera.lens));
      camera.picture.visible = visible;
      if (visible) this.paintPicture(camera, player);
    });
  }

  paintPicture(camera, player) {
    const [width, height] = player.size();
    const shape = { width: PICTURE_WIDTH, height: Math.round((PICTURE_WIDTH * height) / width) };
    if (camera.canvas?.height !== shape.height) {
      camera.canvas = Object.assign(document.createElement("canvas"), shape);
      camera.picture.material.map?.dispose();
      camera.picture.material.map = Object.assign(new CanvasTexture(camera.canvas), { colorSpace: SRGBColorSpace, generateMipmaps: false });
      camera.picture.material.needsUpdate = true;
      const corners = [[0, 1], [1, 1], [1, 0], [0, 1], [1, 0], [0, 0]];
      camera.picture.geometry.setAttribute("uv", new BufferAttribute(new Float32Array(corners.flat()), 2));
    }
    player.paint(camera.canvas.getContext("2d"), camera.index, 0, 0, shape.width, shape.height);
    camera.picture.material.map.needsUpdate = true;
  }

  // What is drawn of each camera, in metres: its centre and its picture's corners, and the points of its path. For tests.
  drawn() {
    this.scene.updateMatrixWorld(true);
    return this.cameras.map(({ objects, picture }) => {
      const corners = [0, 1, 2, 5].map((i) => new Vector3().fromBufferAttribute(picture.geometry.getAttribute("position"), i));
      const path = objects.path.children[0]?.geometry.getAttribute("instanceStart");
      return {
        points: [new Vector3(), ...corners].map((point) => point.applyMatrix4(objects.body.matrixWorld).toArray()),
        path: Array.from({ length: path?.count ?? 0 }, (_, i) => new Vector3().fromBufferAttribute(path, i).toArray()),
      };
    });
  }
}
