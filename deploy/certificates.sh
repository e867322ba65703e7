#!/bin/sh
# Makes a certificate for a server that is not on the Internet, once, and the file that its clients check it by:
#
#     certificates.sh <name of the server> <folder for certificate.pem and key.pem> <folder for ca.pem>
#
# The key of the authority is thrown away, so that nobody can make another certificate with it.
set -eu
name=$1 server=$2 ca=$3

if [ -f "$server/key.pem" ] && [ -f "$ca/ca.pem" ]; then
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 077

openssl ecparam -genkey -name prime256v1 -noout -out "$work/ca.key"
cat >"$work/request.conf" <<END
[req]
prompt = no
distinguished_name = name
[name]
CN = $name
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:$name
END
openssl req -x509 -new -config "$work/request.conf" -extensions authority -subj "/CN=Authority of $name" \
    -key "$work/ca.key" -days 3650 -out "$work/ca.pem"

openssl ecparam -genkey -name prime256v1 -noout -out "$work/key.pem"
openssl req -new -config "$work/request.conf" -key "$work/key.pem" -out "$work/server.csr"
openssl x509 -req -in "$work/server.csr" -extfile "$work/request.conf" -extensions server \
    -CA "$work/ca.pem" -CAkey "$work/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
    -days 3650 -out "$work/certificate.pem" 2>/dev/null

cp "$work/ca.pem" "$ca/ca.pem"
cp "$work/certificate.pem" "$server/certificate.pem"
cp "$work/key.pem" "$server/key.pem"
# Whoever the server runs as may read them; their folder is a volume that nobody else has.
chmod 644 "$ca/ca.pem" "$server/certificate.pem" "$server/key.pem"
