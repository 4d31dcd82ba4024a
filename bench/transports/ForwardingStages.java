import java.io.IOException;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;

/**
 * The forwarding stages on Kafka Streams: arguments are pairs of topics, options of Streams are system properties.
 *
 * <p>Started by contenders.py, which compiles it. It ends at the end of its standard input.
 */
public final class ForwardingStages {
    public static void main(String[] topics) throws IOException {
        Properties options = new Properties();
        for (String name : System.getProperties().stringPropertyNames()) {
            if (name.startsWith("streams.")) {
                options.put(name.substring("streams.".length()), System.getProperty(name));
            }
        }
        options.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        options.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        StreamsBuilder builder = new StreamsBuilder();
        for (int stage = 0; stage + 1 < topics.length; stage += 2) {
            builder.stream(topics[stage]).to(topics[stage + 1]);
        }
        KafkaStreams streams = new KafkaStreams(builder.build(), options);
        streams.start();
        while (System.in.read() >= 0) {}
        streams.close();
    }
}
