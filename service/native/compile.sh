#!/usr/bin/env bash
# Compiles service/native/kernels.c into a folder, once for each kind of processor that this compiler knows: the
# server loads what its own processor can run. Without a compiler nothing is made, and ONNX Runtime decodes all.
set -euo pipefail
source=$(dirname "$0")/kernels.c
folder=$1
mkdir -p "$folder"

if ! compiler=$(command -v "${CC:-cc}" || command -v gcc || command -v clang); then
  echo "no C compiler found: ONNX Runtime will decode everything, which is slower"
  exit 0
fi

compile() {
  local kind=$1
  shift
  if ! "$compiler" -std=gnu11 -O3 -fPIC -shared -Wno-psabi "$@" -o "$folder/new.so" "$source" -lm 2>"$folder/$kind.log"; then
    echo "no kernels for $kind: this compiler does not know it (see $folder/$kind.log)"
    return
  fi
  rm "$folder/$kind.log"
  mv "$folder/new.so" "$folder/kernels-$kind.so"
}

case $(uname -m) in
  x86_64 | amd64)
    avx512=(-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma)
    compile amx "${avx512[@]}" -mamx-tile -mamx-int8
    compile avx512 "${avx512[@]}"
    ;;
  *) echo "no kernels for $(uname -m): ONNX Runtime will decode everything" ;;
esac
