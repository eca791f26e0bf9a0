// Poses of one person with ONNX Runtime in Node.js: crop, run, map back.
//
//   npm install onnxruntime-node sharp
//   node poses.mjs w32.onnx street.jpg LEFT TOP WIDTH HEIGHT
import ort from "onnxruntime-node";
import sharp from "sharp";

const PADDING = 1.25; // of the person's box; "box_padding" in the file's metadata
const NAMES = [
  "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
  "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
  "left_knee", "right_knee", "left_ankle", "right_ankle",
]; // COCO-17; "keypoint_names" in the file's metadata

const [modelPath, picturePath, ...box] = process.argv.slice(2);
const [left, top, boxWidth, boxHeight] = box.map(Number);
const session = await ort.InferenceSession.create(modelPath);
const [, height, width] = session.inputMetadata[0].shape;
const picture = await sharp(picturePath).removeAlpha().raw().toBuffer({ resolveWithObject: true });

// The box grows to the crop's proportions, then by the padding, around its centre.
const centreX = left + boxWidth / 2;
const centreY = top + boxHeight / 2;
const cropWidth = Math.max(boxWidth, (boxHeight * width) / height) * PADDING;
const pixelsPerCell = cropWidth / width;

function colour(x, y, channel) {
  const { info, data } = picture;
  const inside = x >= 0 && y >= 0 && x < info.width && y < info.height;
  return inside ? data[(y * info.width + x) * info.channels + channel] : 0;
}

function bilinear(x, y, channel) {
  const x0 = Math.floor(x);
  const y0 = Math.floor(y);
  const [fx, fy] = [x - x0, y - y0];
  const upper = colour(x0, y0, channel) * (1 - fx) + colour(x0 + 1, y0, channel) * fx;
  const lower = colour(x0, y0 + 1, channel) * (1 - fx) + colour(x0 + 1, y0 + 1, channel) * fx;
  return Math.round(upper * (1 - fy) + lower * fy);
}

const crop = new Uint8Array(height * width * 3);
for (let row = 0; row < height; row++) {
  for (let column = 0; column < width; column++) {
    const x = centreX + (column - width / 2) * pixelsPerCell;
    const y = centreY + (row - height / 2) * pixelsPerCell;
    for (let channel = 0; channel < 3; channel++) {
      crop[(row * width + column) * 3 + 2 - channel] = bilinear(x, y, channel); // RGB to BGR
    }
  }
}

const feeds = { crops: new ort.Tensor("uint8", crop, [1, height, width, 3]) };
const { keypoints, scores } = await session.run(feeds, ["keypoints", "scores"]);
const stride = 4; // crop pixels per heatmap pixel
NAMES.forEach((name, k) => {
  const [x, y] = [keypoints.data[2 * k], keypoints.data[2 * k + 1]];
  const imageX = centreX + (x * stride - width / 2) * pixelsPerCell;
  const imageY = centreY + (y * stride - height / 2) * pixelsPerCell;
  console.log(name.padEnd(16), imageX.toFixed(1), imageY.toFixed(1), scores.data[k].toFixed(3));
});
