#!/usr/bin/env bash
# Copies the libraries of gRPC that the compiled front loads to lib/ beside it, where it looks first: for an image
# that has no packages of them.
set -euo pipefail
folder=$1
[[ -f $folder/calls.so ]] || exit 0
mkdir -p "$folder/lib"
ldd "$folder/calls.so" | awk '$3 ~ /lib(grpc|gpr|upb|absl_|address_sorting|cares|re2)/ {print $3}' |
  xargs -r cp --dereference --target-directory="$folder/lib"
