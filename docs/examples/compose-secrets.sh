#!/bin/sh
# Makes what docker-compose.yml needs and no repository may hold: a certificate
# authority, a certificate and key for each server, and the password of the
# database's administrator. All of it is new and random; nothing is overwritten.
#
#   sh docs/examples/compose-secrets.sh [FOLDER]        (default: secrets)
#
# The folder can be entered by its owner alone. The files in it can be read by
# all, because inside of the containers other users read them, to whom compose
# shows single files and never the folder.
#
# ca.key signs certificates that all of these servers trust. No container gets it:
# move it off this machine.
set -eu

dir=${1:-secrets}
days=825

if [ -e "$dir" ]; then
  echo "$dir is there already: remove it yourself if it is no longer needed" >&2
  exit 1
fi
umask 077
mkdir "$dir"
cd "$dir"
echo '*' >.gitignore

rsa() { openssl genrsa -out "$1" 2048 2>/dev/null; }

rsa ca.key
openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj '/CN=writ compose CA' -out ca.crt \
  -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' -addext 'keyUsage=critical,keyCertSign,cRLSign'

# certificate NAME COMMON-NAME USES: for the host NAME on the compose network, and
# for whoever asks on the same machine.
certificate() {
  rsa "$1.key"
  openssl req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr"
  cat >"$1.ext" <<EOF
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature,keyEncipherment
extendedKeyUsage = $3
subjectAltName = DNS:$1,DNS:localhost,IP:127.0.0.1
EOF
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days "$days" -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  rm "$1.csr" "$1.ext"
}

# Nodes of a cluster know each other by the common name, which must be one and
# the same, and by certificates for both ends of a connection.
for node in eventstore node1 node2 node3; do
  certificate "$node" eventstoredb-node serverAuth,clientAuth
done
certificate writ writ serverAuth
rm -f ca.srl

openssl rand -hex 24 >eventstore-admin-password

chmod 0444 ./*.crt eventstore-admin-password eventstore.key node1.key node2.key node3.key writ.key
chmod 0400 ca.key
echo "made $dir; move $dir/ca.key off this machine"
