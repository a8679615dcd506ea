#!/usr/bin/env bash
# Build the environment in which this repository is tested.
#
#   tools/setup.sh VENV TORCH MMCV
#
# e.g. tools/setup.sh .venv 2.14.1 lite
#
# MMCV=lite installs mmcv-lite, whose operators mmfrozen provides: nothing is
# compiled. MMCV=compiled builds mmcv's own operators, which takes 11 to 45
# minutes on 2 cores; the wheel is kept under a key that holds everything it
# was compiled for, and an interrupted compilation resumes.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1
torch=$2
kind=${3:-lite}
mmcv=2.1.0
mim=0.3.9
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mmfrozen
python=$venv/bin/python
mark=$venv/.complete

say() { printf '[setup %02d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
pip() { "$python" -m pip --disable-pip-version-check "$@"; }

compile_mmcv() {  # into $store
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
        { tail -n 30 "$log" >&2; die "mmcv must compile, got the error above (whole log: $log). Run the same command again to resume."; }
    mv "$store"/src/dist/mmcv-*.whl "$store/"
    rm -rf "$store/src" "$store/sdist"
}

# What the environment depends on; a change of any of it builds it anew.
wanted="torch $torch mmcv $kind $mmcv mim $mim $(pwd) $(cat setup.cfg pyproject.toml tools/setup.sh build_tools/build_backend.py | cksum)"
if [ -f "$mark" ] && [ "$(cat "$mark")" = "$wanted" ]; then
    exit 0
fi

${PYTHON:-python3} -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' ||
    die "Python 3.10 to 3.12 with venv is required, got $(${PYTHON:-python3} --version 2>&1). Set PYTHON=/path/to/python3.11."
case $kind in
    lite) ;;
    compiled) command -v g++ >/dev/null ||
        die "g++ is required to compile mmcv's operators, got none. Install it (Debian: apt-get install g++), or use MMCV=lite." ;;
    *) die "MMCV must be lite or compiled, got $kind." ;;
esac

say "1/4 environment $venv with torch $torch (5.5 GB with its CUDA libraries)"
rm -rf "$venv"
${PYTHON:-python3} -m venv "$venv"
# numpy 2 and what needs it came after torch 2.1 and 2.2
constraints=$venv/constraints.txt
case $torch in
    2.[12].*) printf 'numpy<2\nopencv-python<4.12\n' ;;
esac >"$constraints"
pip install -c "$constraints" "torch==$torch" torchvision

if [ "$kind" = compiled ]; then
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    command -v flock >/dev/null && { flock -n 9 || { say "waiting for another setup"; flock 9; }; }
    # mmcv's setup.py imports pkg_resources (setuptools < 80) and psutil
    pip install -c "$constraints" numpy 'setuptools<80' wheel ninja psutil
    key=$("$python" - <<PY
import platform, sys, torch
print('mmcv-$mmcv', 'torch-' + torch.__version__, sys.implementation.cache_tag,
      platform.machine(), 'cuda' if torch.cuda.is_available() else 'cpu', sep='_')
PY
    )
    store=$cache/$key
    if ls "$store"/*.whl >/dev/null 2>&1; then
        say "2/4 mmcv $mmcv compiled for torch $torch: kept from an earlier setup"
    else
        say "2/4 compiling mmcv $mmcv for torch $torch (11 to 45 minutes on 2 cores)"
        compile_mmcv
    fi
    pip install -c "$constraints" "$store"/mmcv-*.whl
    extras=mim,test
else
    say "2/4 mmcv-lite $mmcv: nothing to compile"
    extras=lite,test
fi

say "3/4 this package, MMDetection and mim"
pip install -c "$constraints" -e ".[$extras]"
pip install --no-deps "openmim==$mim"  # its needs are in the extra

say "4/4 checking that it works"
"$python" - <<PY
import mmdet, mmcv, mmengine, torch, torchvision
from mmcv.ops import nms
import mmfrozen, mmfrozen_ext
from mmcv import _ext
boxes = torch.tensor([[0., 0., 9., 9.], [0., 0., 9., 8.]])
assert len(nms(boxes, torch.tensor([.9, .8]), 0.5)[1]) == 1
assert mmfrozen_ext.is_compiled(_ext) == ('$kind' == 'compiled')
print(f'torch {torch.__version__}, torchvision {torchvision.__version__}, '
      f'mmcv {mmcv.__version__} ($kind), mmengine {mmengine.__version__}, '
      f'mmdet {mmdet.__version__}, mmfrozen {mmfrozen.__version__}')
PY
printf '%s' "$wanted" >"$mark"
say "done: . $venv/bin/activate"
