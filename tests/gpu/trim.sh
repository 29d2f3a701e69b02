#!/usr/bin/env bash
# trim.sh PART NAME: take out of a packed part what infertune never reads, so that a transfer stays within its limit.
#
# PART has NAME.part.00, NAME.sha256 and assemble.py, as the packing scripts make it. Left out: translations of country
# names, and plotly's JupyterLab extension and example data.
set -euo pipefail
part=${1:?usage: trim.sh PART NAME}; name=${2:?usage: trim.sh PART NAME}
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/site"
GPU_PARTS=$scratch/parts python3 "$part/assemble.py" "$part" "$scratch/site"
rm -rf "$scratch"/site/{pycountry/locales,share,plotly/labextension,plotly/package_data/datasets}
cd "$scratch"
tar -C site --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - . | xz -T0 -6 >"$name.tar.xz"
cp "$name.tar.xz" "$name.part.00"
sha256sum "$name.part.00" "$name.tar.xz" >"$name.sha256"
cd - >/dev/null
cp -f "$scratch/$name.part.00" "$scratch/$name.sha256" "$part/"
du -m "$part"
