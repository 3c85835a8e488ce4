import json
from pathlib import Path
from Crypto.Cipher import DES
from datetime import datetime
from sts import codec, derivation, crc
from sts.ciphers import *
from sts.decoder_key import DecoderKey
from sts.identifiers import *
from sts.token_identifier import *
from sts.frame import Frame
from sts.token_number import TokenNumber
from sts.amount import Amount16
from sts.key_change import KeyChange
V=json.loads(Path(__file__).parent.parent.joinpath("vectors/sts531.json").read_text())["vectors"]
def ctx(c, ea):
    return derivation.KeyContext(pan=MeterPAN(digits=c["pan"]),supply_group_code=SupplyGroupCode(digits=c["sgc"]),tariff_index=TariffIndex(digits=c["ti"]),key_revision_number=KeyRevisionNumber(number=c["krn"]),key_type=KeyType(c["kt"]),base_date=BaseDate(c["base_date"]),ea=EncryptionAlgorithm(ea),dkga=DecoderKeyGenerationAlgorithm(c["dkga"]))
def test_all():
    n=0
    for v in V:
        if v["kind"]=="token":
            f=Frame(token_class=v["class"],subclass=v["subclass"],content=int(v["content44"],16))
            assert f"{f.crc:04x}"==v["crc"]; assert f"{f.block:016x}"==v["plain64"]
            key=None
            if v["ea"]:
                key=derivation.derive(bytes.fromhex(v["key_context"]["vk"]),ctx(v["key_context"],v["ea"]))
                assert key.octets.hex()==v["decoder_key"]
                t=codec.decode(TokenNumber(digits=v["token"]),key)
                assert t.frame==f
                tid=TokenIdentifier.from_naive(datetime.fromisoformat(v["issue_time"]),BaseDate(14))
                assert tid.minutes==v["tid"],v
            else:
                t=codec.decode_frame(codec.decode_number(TokenNumber(digits=v["token"]),None),EncryptionAlgorithm.STA)
            assert codec.encode(t,key).digits==v["token"]; n+=1
        elif v["kind"]=="kct":
            old=derivation.derive(bytes.fromhex(v["old_context"]["vk"]),ctx(v["old_context"],v["ea"]))
            new=derivation.derive(bytes.fromhex(v["new_context"]["vk"]),ctx(v["new_context"],v["ea"]))
            ch=KeyChange(decoder_key=new,key_expiry_number=KeyExpiryNumber(number=v["ken"]),key_revision_number=KeyRevisionNumber(number=v["krn"]),key_type=KeyType(v["kt"]),tariff_index=TariffIndex(digits=v["ti"]),rollover=bool(v["ro"]),supply_group_code=SupplyGroupCode(digits=v["sgc"]))
            assert [codec.encode(s,old).digits for s in ch.sections()]==v["tokens"]; n+=1
        elif v["kind"]=="amount":
            assert f'{Amount16.from_units(v["units"]).field:04x}'==v["field"];n+=1
        elif v["kind"]=="crc":
            assert f'{crc.crc16(bytes.fromhex(v["data"])):04x}'==v["crc"];n+=1
    print(n)
