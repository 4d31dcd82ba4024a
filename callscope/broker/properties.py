"""The broker's configuration files as text. Paths in them are relative to the broker's directory."""

from __future__ import annotations

from callscope.broker.ports import HOST

LOG_FILE = "log/kafka.log"

LOG4J2_PROPERTIES = f"""\
status = error
# Kafka logs until its end; log4j's own hook would fall silent at SIGTERM.
shutdownHook = disable
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {LOG_FILE}
appender.file.filePattern = {LOG_FILE}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yyyy-MM-dd'T'HH:mm:ss.SSS'Z'}}{{UTC}} %-5p %c{{1}}  %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
# Kafka's hundreds of settings, several times over at each start.
logger.config.name = org.apache.kafka.common.config.AbstractConfig
logger.config.level = warn
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""
"""Everything from INFO on, at most 40 MB of it."""


def server_properties(port: int, controller_port: int, data: str, retention_hours: int | None = None) -> str:
    """One node that is broker and controller, on loopback only, small and quick to answer.

    Args:
        port: where clients connect.
        controller_port: where the node talks to itself; it may change from start to start.
        data: the folder of the records.
        retention_hours: for topics that do not say; None leaves Kafka's week.

    Returns:
        A Java properties file in ASCII; https://kafka.apache.org/41/configuration/broker-configs/ explains the keys.
    """
    lines = f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{HOST}:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}
advertised.listeners=PLAINTEXT://{HOST}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}

# Topics come from callscope/topics.py; a misspelt name is an error.
auto.create.topics.enable=false

# One node: Kafka's own topics cannot have three replicas, and need few partitions.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4

# A worker gets its partitions when it asks, not 3 s later in case others follow.
group.initial.rebalance.delay.ms=0

# Each of some sixty partitions maps its newest segment's indexes whole: 1 MB is enough for 128 MB of records.
log.segment.bytes=134217728
log.index.size.max.bytes=1048576
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""
    return lines if retention_hours is None else f"{lines}log.retention.hours={retention_hours}\n"
