#!/usr/bin/env bash
# Downloads ONNX Runtime's shared library into .cache/onnxruntime: pinned and hash-checked.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=.cache/onnxruntime
version=$(sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' scripts/onnxruntime.txt)
case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) platform=manylinux_2_28_x86_64 library=libonnxruntime.so.$version ;;
    Linux-aarch64) platform=manylinux_2_28_aarch64 library=libonnxruntime.so.$version ;;
    Darwin-arm64) platform=macosx_14_0_arm64 library=libonnxruntime.$version.dylib ;;
    *)
        echo "No pinned ONNX Runtime for $(uname -s) $(uname -m): set onnxruntime.library to one you have." >&2
        exit 1
        ;;
esac
if [ -e "$folder/$library" ]; then
    exit 0
fi

echo "Downloading ONNX Runtime $version ..."
pip=(python3 -m pip)
if ! "${pip[@]}" --version >/dev/null 2>&1; then
    # Some distributions ship Python without pip; a virtual environment brings one.
    python3 -m venv .cache/pip
    pip=(.cache/pip/bin/python -m pip)
fi
rm -rf "$folder.part"
mkdir -p "$folder.part"
# One fixed interpreter and platform tag, so that every machine fetches a wheel whose hash is pinned.
"${pip[@]}" download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --implementation cp --python-version 3.12 --abi cp312 --platform "$platform" \
    --dest "$folder.part" --requirement scripts/onnxruntime.txt
python3 - "$folder.part" "$library" <<'PY'
import glob, os, shutil, sys, zipfile
folder, library = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(folder, "*.whl"))
with zipfile.ZipFile(wheel) as archive:
    with archive.open(f"onnxruntime/capi/{library}") as source, open(os.path.join(folder, library), "wb") as target:
        shutil.copyfileobj(source, target)
os.remove(wheel)
PY
mkdir -p "$folder"
mv "$folder.part/$library" "$folder/$library"
rm -rf "$folder.part"
echo "ONNX Runtime is at $folder/$library"
