#!/usr/bin/env bash
# Compiles service/native/ into a folder: the kernels, once for each kind of processor that this compiler knows, of
# which the server loads what its own processor can run; and the front, where gRPC's C library is installed with its
# headers. What cannot be compiled is left out, and says so: ONNX Runtime decodes, grpc.aio takes the calls.
set -euo pipefail
here=$(dirname "$0")
folder=$1
mkdir -p "$folder"

if ! compiler=$(command -v "${CC:-cc}" || command -v gcc || command -v clang); then
  echo "no C compiler found: ONNX Runtime will decode everything, and grpc.aio take the calls, which is slower"
  exit 0
fi

compile() {
  local name=$1 without=$2
  shift 2
  if ! "$compiler" -std=gnu11 -O3 -fPIC -shared "$@" 2>"$folder/$name.log"; then
    echo "$name: not compiled (see $folder/$name.log); $without"
    rm -f "$folder/new.so"
    return
  fi
  rm "$folder/$name.log"
  mv "$folder/new.so" "$folder/$name.so"
}

compile_kernels() {
  local kind=$1
  shift
  compile "kernels-$kind" "processors of that kind decode more slowly" \
    -Wno-psabi "$@" -o "$folder/new.so" "$here/kernels.c" -lm
}

case $(uname -m) in
  x86_64 | amd64)
    avx512=(-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma)
    compile_kernels amx "${avx512[@]}" -mamx-tile -mamx-int8
    compile_kernels avx512 "${avx512[@]}"
    ;;
  *) echo "no kernels for $(uname -m): ONNX Runtime will decode everything" ;;
esac
compile calls "grpc.aio will take the calls, which costs more; Debian has what is missing in libgrpc-dev" \
  -Wl,--disable-new-dtags,-rpath,'$ORIGIN/lib' -o "$folder/new.so" "$here/calls.c" -lgrpc -lgpr -lpthread
