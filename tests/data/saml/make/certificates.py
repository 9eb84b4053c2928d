"""Keys and certificates for tests. They are valid from 2020 to 2050. Usage: certificates.py KEYS"""

import datetime
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

OUT = pathlib.Path(sys.argv[1])
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp.example.com")])
KEYS = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "rsa2": rsa.generate_private_key(65537, 3072),
    "rsa1024": rsa.generate_private_key(65537, 1024),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
}
for name, key in KEYS.items():
    certificate = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(key.public_key())
    certificate = certificate.serial_number(x509.random_serial_number())
    certificate = certificate.not_valid_before(datetime.datetime(2020, 1, 1)).not_valid_after(datetime.datetime(2050, 1, 1)).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (OUT / f"{name}.key").write_bytes(pem)
    (OUT / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
