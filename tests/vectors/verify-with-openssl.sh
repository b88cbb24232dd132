#!/bin/bash
# Verifies one signed message with nothing but openssl: verify-with-openssl.sh MESSAGE.jws ROOT.pem [SECONDS-SINCE-1970]
# 1. the certificate in the message leads to the root  2. the signature is that certificate's over the bytes that were sent
set -euo pipefail
message=$1 root=$2 at=${3:-$(date +%s)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

base64url() { local text; text=$(tr '_-' '/+'); while ((${#text} % 4)); do text+='='; done; printf %s "$text" | base64 -d; }
IFS=. read -r header payload signature < <(cat "$message"; echo)

# The chain: leaf first, then the authorities below the root.
number=0
for certificate in $(printf %s "$header" | base64url | sed -n 's/.*"x5c":\[\([^]]*\)\].*/\1/p' | tr -d '"' | tr ',' ' '); do
    printf %s "$certificate" | base64 -d | openssl x509 -inform DER -out "$work/$number.pem"
    number=$((number + 1))
done
cat "$work"/[1-9].pem >"$work/authorities.pem"
openssl verify -attime "$at" -CAfile "$root" -untrusted "$work/authorities.pem" "$work/0.pem" >/dev/null

# The signature is r and s, 32 bytes each (RFC 7518 section 3.4); openssl wants them as an ASN.1 SEQUENCE.
hex=$(printf %s "$signature" | base64url | od -An -v -tx1 | tr -d ' \n')
[ ${#hex} = 128 ] || { echo "the signature has not 64 bytes" >&2; exit 1; }
printf 'asn1=SEQUENCE:rs\n[rs]\nr=INTEGER:0x%s\ns=INTEGER:0x%s\n' "${hex:0:64}" "${hex:64}" >"$work/signature.conf"
openssl asn1parse -genconf "$work/signature.conf" -noout -out "$work/signature.der"
openssl x509 -in "$work/0.pem" -noout -pubkey >"$work/public.pem"
printf %s "$header.$payload" | openssl dgst -sha256 -verify "$work/public.pem" -signature "$work/signature.der"
openssl x509 -in "$work/0.pem" -noout -ext subjectAltName | sed -n 's/ *URI:/signed by /p'
