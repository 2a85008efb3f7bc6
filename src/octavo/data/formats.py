"""Image formats by file name ending and by first bytes: those that are read, and those that are only known by name."""

from __future__ import annotations

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "AVIF": (".avif", ".avifs"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""File name endings of each format that is read, in lower case, by Pillow's name of it."""
FORMATS = tuple(SUFFIXES)
"""Formats that are decoded, by Pillow's names; everything else that Pillow could open is refused."""
IMAGE_SUFFIXES = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
"""Endings of the files that are read as images, in lower case."""
READ = "JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or PPM"
"""The same as people write them."""

_CONVERT = "convert to JPEG or PNG"
_KNOWN = {
    "HEIC": (".heic", ".heif", ".hif", ".heics", ".heifs"),
    "JPEG 2000": (".jp2", ".j2k", ".jpf", ".jpx", ".jpm", ".j2c", ".jpc"),
    "JPEG XL": (".jxl",),
    "JPEG XR": (".jxr", ".wdp", ".hdp"),
    "SVG": (".svg", ".svgz"),
    "Photoshop": (".psd", ".psb"),
    "icon": (".ico", ".icns", ".cur"),
    "Targa": (".tga",),
    "OpenEXR": (".exr",),
    "Radiance HDR": (".hdr",),
    "PCX": (".pcx",),
    "DDS": (".dds",),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".bw"),
    "EPS": (".eps",),
    "raw camera": (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw"),
    "DICOM": (".dcm", ".dicom"),
    "NIfTI": (".nii",),
    "whole-slide": (".svs", ".ndpi", ".mrxs", ".scn"),
    "FITS": (".fits", ".fit"),
}
_UNREAD = {suffix: name for name, suffixes in _KNOWN.items() for suffix in suffixes}
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")

SNIFFED = 132
"""First bytes of a file that `format_of` wants."""


def unread_format(suffix: str) -> str | None:
    """Return the name of an image format that isn't read, by a file's ending in lower case: `HEIC` of `.heic`."""
    return _UNREAD.get(suffix)


def format_of(head: bytes) -> str | None:
    """Return the image format that a file's first bytes tell: a key of SUFFIXES, or the name of one that isn't read."""
    fixed = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF",
             b"II*\0": "TIFF", b"MM\0*": "TIFF", b"8BPS": "Photoshop", b"\xff\x0a": "JPEG XL",
             b"\0\0\0\x0cJXL ": "JPEG XL", b"\0\0\0\x0cjP  ": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000",
             b"II\xbc": "JPEG XR", b"v/1\x01": "OpenEXR", b"#?RADIANCE": "Radiance HDR", b"DDS ": "DDS",
             b"qoif": "QOI", b"SIMPLE  =": "FITS"}  # fmt: skip
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "AVIF" if brand in (b"avif", b"avis") else "HEIC" if brand in (*_HEIF, b"mif1", b"msf1") else None
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace() and head[3:4] in b"#0123456789":
        return "PPM"
    return next((name for start, name in fixed.items() if head.startswith(start)), None)


def advice(name: str) -> str:
    """Return why files of a format that isn't read are left out, and what to do: `HEIC: convert to JPEG or PNG`."""
    return f"{name} is not read; {_CONVERT}"
