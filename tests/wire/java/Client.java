import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.*;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

/**
 * Kafka's own client for the tests. Records are JSON objects, one a line; bytes in them are base64.
 *
 *   Client BOOTSTRAP produce TOPIC=CODEC... -- NAME=VALUE...     the records on stdin, to each topic's partition 0
 *   Client BOOTSTRAP consume COUNT TOPIC... -- NAME=VALUE...     COUNT records from the beginning of each topic
 *   Client BOOTSTRAP member GROUP TOPIC -- NAME=VALUE...         a member of a group until stdin ends: tells what it is
 *                                                                assigned, what is taken from it, and what it reads and commits
 */
public class Client {
    static final ObjectMapper JSON = new ObjectMapper();
    static String bootstrap;
    static final Map<String, Object> properties = new HashMap<>();

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        List<String> all = List.of(args), words = all.subList(2, all.size());
        int end = words.indexOf("--");
        for (String property : end < 0 ? List.<String>of() : words.subList(end + 1, words.size()))
            properties.put(property.split("=", 2)[0], property.split("=", 2)[1]);
        words = end < 0 ? words : words.subList(0, end);
        switch (args[1]) {
            case "produce" -> produce(words);
            case "consume" -> consume(Integer.parseInt(words.get(0)), words.subList(1, words.size()));
            case "member" -> member(words.get(0), words.get(1));
            default -> throw new IllegalArgumentException(args[1]);
        }
        System.out.flush();
    }

    static byte[] bytes(JsonNode text) {
        return text == null || text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    static JsonNode text(byte[] bytes) {
        return bytes == null ? NullNode.instance : new TextNode(Base64.getEncoder().encodeToString(bytes));
    }

    static void produce(List<String> topics) throws Exception {
        List<JsonNode> records = new ArrayList<>();
        var stdin = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = stdin.readLine()) != null; )
            records.add(JSON.readTree(line));
        for (String topic : topics) {
            Map<String, Object> config = new HashMap<>(properties);
            config.put("bootstrap.servers", bootstrap);
            config.put("compression.type", topic.split("=")[1]);
            config.putIfAbsent("linger.ms", "20");
            try (var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
                List<Future<RecordMetadata>> sent = new ArrayList<>();
                for (JsonNode r : records) {
                    List<Header> headers = new ArrayList<>();
                    for (JsonNode h : r.get("headers"))
                        headers.add(new RecordHeader(h.get(0).asText(), bytes(h.get(1))));
                    sent.add(producer.send(new ProducerRecord<>(topic.split("=")[0], 0, r.get("timestamp").asLong(),
                                                                bytes(r.get("key")), bytes(r.get("value")), headers)));
                }
                producer.flush();
                for (int i = 0; i < sent.size(); i++)
                    if (sent.get(i).get().offset() != i)
                        throw new IllegalStateException("record " + i + " is at " + sent.get(i).get().offset());
            }
        }
    }

    static KafkaConsumer<byte[], byte[]> consumer() {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest",
                                                          "enable.auto.commit", "false"));
        config.putAll(properties);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static void print(ConsumerRecord<byte[], byte[]> r) throws Exception {
        ArrayNode headers = JSON.createArrayNode();
        for (Header h : r.headers())
            headers.addArray().add(h.key()).add(text(h.value()));
        ObjectNode o = JSON.createObjectNode().put("topic", r.topic()).put("partition", r.partition()).put("offset", r.offset())
                .put("timestamp", r.timestamp());
        o.set("key", text(r.key()));
        o.set("value", text(r.value()));
        o.set("headers", headers);
        System.out.println(JSON.writeValueAsString(o));
    }

    static void consume(int count, List<String> topics) throws Exception {
        try (var consumer = consumer()) {
            List<TopicPartition> all = new ArrayList<>();
            for (String topic : topics)
                all.add(new TopicPartition(topic, 0));
            consumer.assign(all);
            consumer.seekToBeginning(all);
            for (int left = count * topics.size(); left > 0; )
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofSeconds(1))) {
                    print(r);
                    left--;
                }
        }
    }

    static void tell(String what, Collection<TopicPartition> partitions) {
        List<Integer> numbers = partitions.stream().map(TopicPartition::partition).sorted().toList();
        System.out.println("{\"" + what + "\": " + numbers + "}");
        System.out.flush();
    }

    static void member(String group, String topic) throws Exception {
        properties.put("group.id", group);
        try (var consumer = consumer()) {
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                public void onPartitionsAssigned(Collection<TopicPartition> p) { tell("assigned", p); }
                public void onPartitionsRevoked(Collection<TopicPartition> p) { tell("revoked", p); }
                public void onPartitionsLost(Collection<TopicPartition> p) { tell("lost", p); }
            });
            var stdin = new Thread(() -> {
                try {
                    while (System.in.read() >= 0) { }
                } catch (IOException e) {
                    // ended all the same
                }
                consumer.wakeup();
            });
            stdin.setDaemon(true);
            stdin.start();
            while (stdin.isAlive()) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
                for (ConsumerRecord<byte[], byte[]> r : records)
                    print(r);
                System.out.flush();
                if (!records.isEmpty())
                    consumer.commitSync();
            }
        } catch (org.apache.kafka.common.errors.WakeupException e) {
            System.out.println("{\"closed\": true}");
        }
    }
}
