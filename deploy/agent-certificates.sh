#!/usr/bin/env bash
# Makes what agents show each other: deploy/agent-certificates.sh FOLDER NODE...
#
# FOLDER/ca.key is the authority: keep it, and give it to nobody. FOLDER/secret is what becomes the Secret
# ringway-agents: ca.crt, and NODE.crt and NODE.key for each node. What is there already stays, so that nodes can be
# added, and one whose files were removed gets new ones.
set -euo pipefail
umask 077

[ $# -ge 2 ] || { echo "usage: ${0##*/} FOLDER NODE..." >&2; exit 2; }
folder=$1
shift
mkdir -p "$folder/secret"
curve=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)

if [ ! -e "$folder/ca.key" ]; then
    openssl req -x509 "${curve[@]}" -days 3650 -subj "/CN=ringway agents" -keyout "$folder/ca.key" -out "$folder/secret/ca.crt" 2>/dev/null
fi
for node; do
    own=$folder/secret/$node
    [ ! -e "$own.crt" ] || continue
    openssl req -new "${curve[@]}" -subj "/O=ringway" -keyout "$own.key" -out "$folder/request" 2>/dev/null
    # By the name of the node, and for both ends of a connection.
    printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=digitalSignature\n' "$node" >"$folder/extensions"
    openssl x509 -req -in "$folder/request" -CA "$folder/secret/ca.crt" -CAkey "$folder/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
        -days 825 -extfile "$folder/extensions" -out "$own.crt" 2>/dev/null
    rm "$folder/request" "$folder/extensions"
done
