#!/usr/bin/env bash
# Build the environment in which this repository is tested.
#
#   tools/setup.sh VENV TORCH        e.g. tools/setup.sh .venv 2.14.1
#
# An unfinished environment is thrown away and built again: packages come from
# pip's cache in a minute. Compiling mmcv takes minutes, so its wheel is kept
# under a key that holds everything it was compiled for, and an interrupted
# compilation goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1
torch=$2
mmcv=2.1.0
mim=0.3.9
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mmfrozen
python=$venv/bin/python
mark=$venv/.complete

say() { printf '[setup %02d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
pip() { "$python" -m pip --disable-pip-version-check "$@"; }

# What the environment depends on; a change of any of it builds it anew.
wanted="torch $torch mmcv $mmcv mim $mim $(pwd) $(cat setup.cfg tools/setup.sh | cksum)"
if [ -f "$mark" ] && [ "$(cat "$mark")" = "$wanted" ]; then
    exit 0
fi

${PYTHON:-python3} -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' ||
    die "Python 3.10 to 3.12 with venv is required, got $(${PYTHON:-python3} --version 2>&1). Set PYTHON=/path/to/python3.11."
command -v g++ >/dev/null ||
    die "g++ is required to compile mmcv's operators, got none. Install it (Debian: apt-get install g++)."

mkdir -p "$cache"
exec 9>"$cache/lock"
command -v flock >/dev/null && { flock -n 9 || { say "waiting for another setup"; flock 9; }; }

say "1/4 environment $venv with torch $torch (5.5 GB with its CUDA libraries)"
rm -rf "$venv"
${PYTHON:-python3} -m venv "$venv"
# numpy 2 and what needs it came after torch 2.1 and 2.2
constraints=$venv/constraints.txt
case $torch in
    2.[12].*) printf 'numpy<2\nopencv-python<4.12\n' ;;
esac >"$constraints"
# mmcv's setup.py imports pkg_resources (setuptools < 80) and psutil
pip install -c "$constraints" "torch==$torch" torchvision numpy \
    'setuptools<80' wheel ninja psutil

key=$("$python" - <<PY
import platform, sys, torch
print('mmcv-$mmcv', 'torch-' + torch.__version__, sys.implementation.cache_tag,
      platform.machine(), 'cuda' if torch.cuda.is_available() else 'cpu', sep='_')
PY
)
store=$cache/$key
if ! ls "$store"/*.whl >/dev/null 2>&1; then
    say "2/4 compiling mmcv $mmcv for torch $torch (about 11 minutes on 2 cores)"
    mkdir -p "$store"
    if [ ! -f "$store/src/.unpacked" ]; then
        rm -rf "$store/src" "$store/sdist"
        pip download --quiet --no-deps --no-build-isolation --no-binary mmcv \
            --dest "$store/sdist" "mmcv==$mmcv"
        mkdir "$store/src"
        tar -xzf "$store"/sdist/mmcv-*.tar.gz -C "$store/src" --strip-components 1
        touch "$store/src/.unpacked"
    fi
    # torch 2.14's headers need C++20 while mmcv appends -std=c++17; the last one wins
    if "$python" -c "import torch; v = torch.__version__.split('.'); exit((int(v[0]), int(v[1])) < (2, 14))"; then
        printf '#!/bin/sh\nexec %s "$@" -std=c++20\n' "${CXX:-g++}" >"$store/cxx20"
        chmod +x "$store/cxx20"
        export CXX=$store/cxx20
    fi
    interpreter=$(cd "$venv/bin" && pwd)
    log=$store/build.log
    (cd "$store/src" && rm -rf dist && PATH=$interpreter:$PATH MMCV_WITH_OPS=1 \
        "$interpreter/python" setup.py bdist_wheel 2>&1) | tee "$log" |
        awk '/^\[[0-9]+\/[0-9]+\]/ { split(substr($1, 2), n, "[/\\]]")
             if (n[1] % 10 == 0 || n[1] == n[2]) { print "    compiled " n[1] " of " n[2]; fflush() } }' ||
        { tail -n 30 "$log" >&2; die "mmcv must compile, got the error above (whole log: $log). Run the same command again to go on."; }
    mv "$store"/src/dist/mmcv-*.whl "$store/"
    rm -rf "$store/src" "$store/sdist"
else
    say "2/4 mmcv $mmcv compiled for torch $torch: kept from an earlier setup"
fi

say "3/4 mmcv, MMDetection, mim and this package"
pip install -c "$constraints" "$store"/mmcv-*.whl
pip install -c "$constraints" --no-build-isolation -e '.[test]'
# all that openmim needs but opendatalab, which downgrades setuptools and rich
# (click 8.3 and newer break its --launcher slurm)
pip install -c "$constraints" 'click<8.3' colorama model-index pandas requests tabulate
pip install --no-deps "openmim==$mim"

say "4/4 checking that it works"
"$python" - <<PY
import mmcv, mmdet, mmengine, torch
from mmcv.ops import nms
import mmfrozen
boxes = torch.tensor([[0., 0., 9., 9.], [0., 0., 9., 8.]])
assert len(nms(boxes, torch.tensor([.9, .8]), 0.5)[1]) == 1
print(f'torch {torch.__version__}, mmcv {mmcv.__version__}, mmengine {mmengine.__version__}, '
      f'mmdet {mmdet.__version__}, mmfrozen {mmfrozen.__version__}')
PY
printf '%s' "$wanted" >"$mark"
say "done: . $venv/bin/activate"
