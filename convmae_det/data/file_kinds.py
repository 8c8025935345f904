"""What files are by the ends of their names: images, arrays, and what is none or is not read."""

# Of images that Pillow reads, in lower case, and of files that hold an array.
SUFFIXES = (".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx")
SUFFIXES += (".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".sgi", ".tga", ".tif", ".tiff", ".webp")
ARRAY = ".npy"

# What Pillow doesn't read, by the end of its name, and what to do about it.
VIDEO = "a video: extract its frames, ffmpeg -i VIDEO frames/%06d.png; prediction takes it by its own name"
PHOTO = "a photograph of a kind that Pillow doesn't read: convert it to .jpg or .png"
RAW = "a raw photograph, not developed: convert it to .jpg or .tif"
SLIDE = "a slide of many levels: let convmae-det predict take it in tiles, by --tile 1024"
ARCHIVE = "an archive: unpack it, and name the folder"
SHARD = "an archive: unpack it, and name the folder; in pretraining, DATASETS.SHARDS may name it as it is"
SLIDES = (".bif", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms", ".vmu")  # which OpenSlide reads
NOT_READ = (
    dict.fromkeys((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"), VIDEO)
    | dict.fromkeys((".heic", ".heif", ".jxl", ".svg"), PHOTO)
    | dict.fromkeys((".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".raw", ".rw2"), RAW)
    | dict.fromkeys(SLIDES, SLIDE)
    | dict.fromkeys((".zip", ".gz", ".tgz", ".7z", ".rar"), ARCHIVE)
    | {".tar": SHARD, ".dcm": "a medical image in DICOM's format: convert it to .tif or .png"}
)


def list_suffixes(arrays: bool = False) -> tuple[str, ...]:
    """Lists how names of images end, in lower case; with `arrays`, also those of arrays."""
    return (*SUFFIXES, ARRAY) if arrays else SUFFIXES
