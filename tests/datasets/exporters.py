"""COCO persons as annotation tools export them: the keys, nesting and units of the real files.

CVAT for images 1.1 and CVAT's COCO Keypoints 1.0 (cvat and its datumaro exporter), Label Studio's
JSON and COCO (label-studio-sdk's converter), COCO Annotator (its database models), and DataTorch's
COCO, as in a published export.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape, quoteattr

Content = dict[str, Any]


def persons(content: Content) -> list[Content]:
    return [a for a in content["annotations"] if a["num_keypoints"] and not a["iscrowd"]]


def triplets(entry: Content) -> list[tuple[float, float, int]]:
    flat = entry["keypoints"]
    return list(zip(flat[0::3], flat[1::3], flat[2::3], strict=True))


def cvat_xml(content: Content, *, group_boxes: bool = True) -> str:
    """Skeletons labelled person, boxes labelled person_box in the same group."""
    (category,) = content["categories"]
    labels = [
        "<label><name>person</name><color>#fa3253</color><type>skeleton</type>"
        f"<attributes></attributes><svg>{escape(_svg(category))}</svg></label>",
        "<label><name>person_box</name><type>rectangle</type><attributes></attributes></label>",
        *(
            f"<label><name>{name}</name><type>points</type><attributes></attributes>"
            "<parent>person</parent></label>"
            for name in category["keypoints"]
        ),
    ]
    images = [
        _cvat_image(i, image, content, group_boxes) for i, image in enumerate(content["images"])
    ]
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta><task><id>1</id><name>street</name><labels>{''.join(labels)}</labels></task></meta>\n"
        + "\n".join(images)
        + "\n</annotations>\n"
    )


def _svg(category: Content) -> str:
    edges = (
        f'<line x1="1" y1="2" x2="3" y2="4" data-type="edge" data-node-from="{a}" '
        f'data-node-to="{b}"></line>'
        for a, b in category["skeleton"]
    )
    nodes = (
        f'<circle r="1.5" cx="1" cy="2" data-type="element node" data-element-id="{k}" '
        f'data-node-id="{k}" data-label-name="{name}"></circle>'
        for k, name in enumerate(category["keypoints"], start=1)
    )
    return "".join((*edges, *nodes))


def _cvat_image(index: int, image: Content, content: Content, group_boxes: bool) -> str:
    names = content["categories"][0]["keypoints"]
    lines = [
        f'<image id="{index}" name={quoteattr(image["file_name"])} '
        f'width="{image["width"]}" height="{image["height"]}">'
    ]
    own = [a for a in persons(content) if a["image_id"] == image["id"]]
    for group, entry in enumerate(own, start=1):
        tie = f' group_id="{group}"' if group_boxes else ""
        x, y, w, h = entry["bbox"]
        lines.append(
            f'<box label="person_box" source="manual" occluded="0" xtl="{x:.2f}" ytl="{y:.2f}" '
            f'xbr="{x + w:.2f}" ybr="{y + h:.2f}" z_order="0"{tie}></box>'
        )
        lines.append(f'<skeleton label="person" source="manual" z_order="0"{tie}>')
        for name, (px, py, v) in zip(names, triplets(entry), strict=True):
            # A point that is outside still has a place, wherever the template left it.
            place = f"{px:.2f},{py:.2f}" if v else "12.00,7.00"
            lines.append(
                f'<points label="{name}" source="manual" outside="{int(v == 0)}" '
                f'occluded="{int(v == 1)}" points="{place}"></points>'
            )
        lines.append("</skeleton>")
    return "\n".join([*lines, "</image>"])


def cvat_coco(content: Content) -> Content:
    """Points that are outside have v = 0 but a place, and every sublabel is a category."""
    (category,) = content["categories"]
    sublabels = [
        {"id": k, "name": name, "supercategory": "person", "keypoints": [], "skeleton": []}
        for k, name in enumerate(category["keypoints"], start=2)
    ]
    annotations = []
    for number, entry in enumerate(persons(content), start=1):
        flat = [v for x, y, f in triplets(entry) for v in ((x, y, f) if f else (12.0, 7.0, 0))]
        annotations.append(
            {
                "id": number,
                "image_id": entry["image_id"],
                "category_id": 1,
                "segmentation": [],
                "area": float(entry["bbox"][2] * entry["bbox"][3]),
                "bbox": [float(v) for v in entry["bbox"]],
                "iscrowd": 0,
                "attributes": {"occluded": False, "keyframe": False},
                "keypoints": flat,
                "num_keypoints": entry["num_keypoints"],
            }
        )
    images = [
        {**image, "license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
        for image in content["images"]
    ]
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": dict.fromkeys(
            ("contributor", "date_created", "description", "url", "version", "year"), ""
        ),
        "categories": [{**category, "supercategory": ""}, *sublabels],
        "images": images,
        "annotations": annotations,
    }


def label_studio(content: Content, *, parents: bool = True) -> list[Content]:
    """Rectangles and keypoints in percent; hidden ones by a choice of the region."""
    names = content["categories"][0]["keypoints"]
    tasks = []
    for image in content["images"]:
        size = {"original_width": image["width"], "original_height": image["height"]}
        common = {**size, "image_rotation": 0, "origin": "manual", "to_name": "image"}
        results: list[Content] = []
        for entry in persons(content):
            if entry["image_id"] != image["id"]:
                continue
            x, y, w, h = _percent(entry["bbox"], image)
            region = f"box{entry['id']}"
            value = {"x": x, "y": y, "width": w, "height": h, "rotation": 0}
            value |= {"rectanglelabels": ["person"]}
            results.append(
                {
                    **common,
                    "id": region,
                    "type": "rectanglelabels",
                    "from_name": "box",
                    "value": value,
                }
            )
            for name, (px, py, v) in zip(names, triplets(entry), strict=True):
                if not v:
                    continue
                x, y = _percent([px, py], image)
                point = {**common, "id": f"{region}-{name}", "from_name": "kp"}
                if parents:
                    point["parentID"] = region
                value = {"x": x, "y": y, "width": 0.3, "keypointlabels": [name]}
                results.append({**point, "type": "keypointlabels", "value": value})
                if v == 1:
                    value = {"x": x, "y": y, "width": 0.3, "choices": ["Occluded"]}
                    results.append({**point, "type": "choices", "value": value})
        tasks.append(
            {
                "id": image["id"],
                "annotations": [
                    {
                        "id": 1000 + image["id"],
                        "completed_by": 1,
                        "result": results,
                        "was_cancelled": False,
                        "ground_truth": False,
                        "created_at": "2024-05-01T10:00:00.000000Z",
                    }
                ],
                "file_upload": f"0a1b2c3d-{image['file_name']}",
                "predictions": [],
                "data": {"image": f"/data/upload/7/0a1b2c3d-{image['file_name']}"},
                "meta": {},
                "project": 7,
            }
        )
    return tasks


def _percent(values: list[float], image: Content) -> list[float]:
    sides = [image["width"], image["height"]] * 2
    return [100 * value / side for value, side in zip(values, sides, strict=False)]


def label_studio_coco(content: Content) -> Content:
    """Rectangles of one category, keypoints of "default": one annotation a picture, ids from 0."""
    (category,) = content["categories"]
    images, annotations = [], []
    for image_id, image in enumerate(content["images"]):
        name = f"images/0a1b2c3d-{image['file_name']}"
        images.append({**image, "id": image_id, "file_name": name})
        own = [a for a in persons(content) if a["image_id"] == image["id"]]
        for entry in own:
            box = [float(v) for v in entry["bbox"]]
            record = {"id": len(annotations), "image_id": image_id, "category_id": 0}
            record |= {"segmentation": [], "bbox": box, "ignore": 0, "iscrowd": 0}
            annotations.append({**record, "area": box[2] * box[3]})
        if own:
            flat = [
                v
                for x, y, f in triplets(own[0])
                for v in ((round(x), round(y), 2) if f else (0, 0, 0))
            ]
            xs = [x for x, _, v in zip(flat[0::3], flat[1::3], flat[2::3], strict=True) if v]
            ys = [y for _, y, v in zip(flat[0::3], flat[1::3], flat[2::3], strict=True) if v]
            hull = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
            record = {"id": len(annotations), "image_id": image_id, "category_id": 1}
            record |= {"keypoints": flat, "num_keypoints": len(xs), "bbox": hull, "iscrowd": 0}
            annotations.append(record)
    categories = [
        {"id": 0, "name": "person"},
        {
            "id": 1,
            "name": "default",
            "supercategory": "default",
            "keypoints": category["keypoints"],
            "skeleton": [],
        },
    ]
    info = {"year": 2024, "version": "1.0", "description": "", "contributor": "Label Studio"}
    return {"images": images, "categories": categories, "annotations": annotations, "info": info}


def coco_annotator(content: Content) -> Content:
    """iscrowd false, boxes of nought where only keypoints were set, absolute paths."""
    (category,) = content["categories"]
    images = [
        {
            "id": image["id"],
            "dataset_id": 1,
            "category_ids": [],
            "path": f"/datasets/street/{image['file_name']}",
            "width": image["width"],
            "height": image["height"],
            "file_name": image["file_name"],
            "annotated": False,
            "annotating": [],
            "num_annotations": 0,
            "metadata": {},
            "milliseconds": 0,
            "events": [],
            "regenerate_thumbnail": False,
        }
        for image in content["images"]
    ]
    annotations = [
        {
            "id": entry["id"],
            "image_id": entry["image_id"],
            "category_id": 1,
            "dataset_id": 1,
            "segmentation": [],
            "area": 0,
            "bbox": [0, 0, 0, 0],
            "iscrowd": False,
            "isbbox": False,
            "creator": "admin",
            "color": "#12ab34",
            "keypoints": entry["keypoints"],
            "num_keypoints": entry["num_keypoints"],
            "metadata": {},
            "milliseconds": 0,
            "events": [],
        }
        for entry in persons(content)
    ]
    kind = {**category, "color": "#e03acb", "metadata": {}, "creator": "admin"}
    kind["keypoint_colors"] = ["#ff0000"] * len(category["keypoints"])
    return {"images": images, "categories": [kind], "annotations": annotations}


def datatorch(content: Content) -> Content:
    """Shape and keypoints in two annotations, v always 1, hidden points beyond the box."""
    (category,) = content["categories"]
    annotations: list[Content] = []
    for entry in persons(content):
        common = {"image_id": entry["image_id"], "category_id": 1}
        x, y, w, h = entry["bbox"]
        outline = [x, y, x + w, y, x + w, y + h, x, y + h]
        flat = [
            v for px, py, f in triplets(entry) for v in ((px, py, 1) if f else (x - 40, y - 40, 1))
        ]
        shape = {
            "segmentation": [outline],
            "area": entry["area"],
            "bbox": entry["bbox"],
            "iscrowd": 0,
        }
        half = {"keypoints": flat, "segmentation": [], "area": 0, "bbox": [], "iscrowd": 0}
        for part in (half, shape):
            number = len(annotations) + 1
            annotations.append({"id": number, "datatorch_id": f"0a1b-{number}", **common, **part})
    images = [
        {
            **image,
            "datatorch_id": f"9f-{image['id']}",
            "storage_id": "c1e5",
            "path": f"/home/somebody/Pictures/{image['file_name']}",
            "metadata": {},
        }
        for image in content["images"]
    ]
    kind = {**category, "datatorch_id": "8910", "supercategory": None}
    info = {"year": 2022, "version": "0.1.0", "date_created": 1662465626782}
    return {"info": info, "categories": [kind], "images": images, "annotations": annotations}
