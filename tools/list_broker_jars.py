"""Write `callscope/broker/jars.toml`: the embedded broker's jars, resolved by Maven, with sizes, sums and licences.

Run it to move to another Kafka: `python tools/list_broker_jars.py --kafka 4.1.1 --log4j 2.25.5`. It needs `mvn` and the
network. Every jar's sum is compared with the one its repository publishes (.sha256, or .sha1 for older artefacts).
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from callscope.broker.jars import MAVEN_CENTRAL

OUTPUT = Path(__file__).parent.parent / "callscope" / "broker" / "jars.toml"

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>callscope</groupId><artifactId>jars</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{kafka}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>{log4j}</version></dependency>
  </dependencies>
</project>
"""

HEADER = """\
# The jars of the embedded broker: Apache Kafka {kafka} (kafka_2.13), log4j {log4j}, and all they need at run time.
# Written by tools/list_broker_jars.py, which compared every sum with the one Maven Central publishes. Do not edit.
#
# Callscope does not redistribute these files: each user fetches them from Maven Central (or the mirror that
# CALLSCOPE_BROKER__MIRROR names), and they keep their own licences, given here as their POMs state them.
# Paths are relative to the repository's base URL; sizes are bytes.

kafka_version = "{kafka}"
"""

SPDX = (  # patterns for the names found in POMs; the first that matches wins
    (r"apache.*2|^Apache-2\.0$", "Apache-2.0"),
    (r"mit\b", "MIT"),
    (r"cc0|public domain", "CC0-1.0"),
    (r"2-clause|simplified bsd", "BSD-2-Clause"),
    (r"bsd|go license", "BSD-3-Clause"),
)


def resolve(kafka: str, log4j: str, repository: Path) -> list[Path]:
    """The run-time closure, fetched into an empty local repository."""
    pom, listing = repository / "pom.xml", repository / "list.txt"
    pom.write_text(POM.format(kafka=kafka, log4j=log4j))
    goal = ["dependency:list", "-DincludeScope=runtime", "-DoutputAbsoluteArtifactFilename=true"]
    where = [f"-Dmaven.repo.local={repository}", f"-DoutputFile={listing}", "-Dstyle.color=never"]
    subprocess.run(["mvn", "-q", "-B", "-f", str(pom), *goal, *where], check=True)
    return sorted(Path(jar) for jar in re.findall(r":(?:runtime|compile):(\S+?\.jar)", listing.read_text()))


def licence(pom: Path, repository: Path) -> str:
    """The licences a POM names, or the nearest of its parents that names any, as SPDX identifiers."""
    tree = ET.parse(pom).getroot()
    for element in tree.iter():  # drop the namespace, which older POMs lack
        element.tag = element.tag.rpartition("}")[2]
    names = [(name.text or "").strip() for name in tree.findall("licenses/license/name")]
    if names:
        return " OR ".join(dict.fromkeys(spdx(name, pom) for name in names))
    parent = tree.find("parent")
    if parent is None:
        sys.exit(f"{pom} and its parents name no licence")
    group, artifact, version = (parent.findtext(tag, "") for tag in ("groupId", "artifactId", "version"))
    return licence(repository / group.replace(".", "/") / artifact / version / f"{artifact}-{version}.pom", repository)


def spdx(name: str, pom: Path) -> str:
    """The SPDX identifier for a licence as a POM calls it."""
    for pattern, identifier in SPDX:
        if re.search(pattern, name, re.IGNORECASE):
            return identifier
    sys.exit(f"{pom}: unknown licence {name!r}; add it to SPDX")


def published_sum_matches(path: str, content: bytes) -> str:
    """Compare with what the repository publishes; return the algorithm that was compared."""
    for algorithm in ("sha256", "sha1"):
        answer = requests.get(f"{MAVEN_CENTRAL}/{path}.{algorithm}", timeout=30)
        if answer.ok:
            if answer.text.split()[0].lower() != hashlib.new(algorithm, content).hexdigest():
                sys.exit(f"{path}: the local file's {algorithm} differs from the published one")
            return algorithm
    sys.exit(f"{path}: the repository publishes no sum")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kafka", default="4.1.1")
    parser.add_argument("--log4j", default="2.25.5")
    versions = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(versions.kafka, versions.log4j, Path(folder))


def write(kafka: str, log4j: str, repository: Path) -> None:
    """Resolve, check, write."""
    jars = resolve(kafka, log4j, repository)
    contents = [jar.read_bytes() for jar in jars]
    paths = [jar.relative_to(repository).as_posix() for jar in jars]
    with ThreadPoolExecutor(4) as pool:
        compared = list(pool.map(published_sum_matches, paths, contents))
    blocks = [HEADER.format(kafka=kafka, log4j=log4j)]
    for jar, path, content in zip(jars, paths, contents, strict=True):
        blocks.append(
            f'[[jar]]\npath = "{path}"\nsize = {len(content)}\nsha256 = "{hashlib.sha256(content).hexdigest()}"\n'
            f'licence = "{licence(jar.with_suffix(".pom"), repository)}"\n'
        )
    OUTPUT.write_text("\n".join(blocks))
    print(
        f"{OUTPUT}: {len(jars)} jars, {sum(map(len, contents)) / 1e6:.1f} MB; compared with the published "
        f"{compared.count('sha256')} SHA-256 and {compared.count('sha1')} SHA-1 sums"
    )


if __name__ == "__main__":
    main()
