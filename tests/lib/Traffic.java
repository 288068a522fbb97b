import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.*;
import java.util.function.IntFunction;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

/**
 * Fills a broker with what record_kafka_dir.py records, and tells what is in it, by Kafka's own clients.
 *
 *   Traffic BOOTSTRAP begin                           a topic to which fill appends after the broker's restart
 *   Traffic BOOTSTRAP fill CONSUMER_PROTOCOL...       every topic; ends with transactions left open (see undecided)
 *   Traffic BOOTSTRAP fill-small                      one small topic
 *   Traffic BOOTSTRAP expect ISOLATION FILE TOPIC...  what a consumer reads, one JSON object a record
 *   Traffic BOOTSTRAP reconfigure                     changes a topic config, late in the metadata log
 *   Traffic BOOTSTRAP complete                        waits for the decided transactions, aborts the open one
 *
 * Every producer lingers for long, so that a flush, and nothing else, ends a batch.
 */
public class Traffic {
    static final long EPOCH_MS = 1_750_000_000_000L;   // timestamps of the records that are given one
    static String bootstrap;
    static Admin admin;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        List<String> rest = List.of(args).subList(2, args.length);
        switch (args[1]) {
            case "begin" -> begin();
            case "fill" -> fill(rest);
            case "fill-small" -> fillSmall();
            case "expect" -> expect(rest.get(0), Path.of(rest.get(1)), rest.subList(2, rest.size()));
            case "reconfigure" -> configure("configured", AlterConfigOp.OpType.SET, "max.message.bytes", "300000");
            case "complete" -> complete();
            default -> throw new IllegalArgumentException(args[1]);
        }
        System.out.flush();
        Runtime.getRuntime().halt(0);     // closing a producer would abort what is meant to stay open
    }

    // What is recorded

    static void begin() throws Exception {
        create("restarted", 1);
        lines("restarted", 20);
    }

    static void fill(List<String> consumerProtocols) throws Exception {
        lines("restarted", 30);      // in another leader epoch
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd"))
            codec(codec);
        binary();
        spread();
        segments();
        deletedHead();
        retained();
        configured();
        compacted();
        create("empty", 2);
        create("gone", 1);
        for (String protocol : consumerProtocols)
            group(protocol);
        transactions();
        admin.deleteTopics(List.of("gone")).all().get();
        await("retention has deleted segments", () -> earliest("retained") > 0);
        undecided();
    }

    /** Batches of every kind, of several compressed blocks in any codec, and of what does not compress. */
    static void codec(String codec) throws Exception {
        String topic = "codec-" + codec;
        create(topic, 1, "segment.bytes", "1048576");
        try (Producer<byte[], byte[]> producer = producer("compression.type", codec)) {
            batch(producer, 5, i -> record(topic, 0, "key " + i, codec + " line " + i));
            assortment(topic).forEach(producer::send);
            producer.flush();
            batch(producer, 30, i -> record(topic, 0, "order " + i, prose(i, 8000)));
            batch(producer, 1, i -> record(topic, 0, null, prose(77, 300_000)));
            batch(producer, 2, i -> new ProducerRecord<>(topic, 0, EPOCH_MS + 9000, null, noise(3000 + i)));
        }
        try (Producer<byte[], byte[]> producer = producer("compression.type", codec,
                "enable.idempotence", "false", "acks", "1")) {
            batch(producer, 3, i -> record(topic, 0, null, codec + " without producer id " + i));
            batch(producer, 1, i -> record(topic, 0, null, codec + " last line"));
        }
    }

    static List<ProducerRecord<byte[], byte[]>> assortment(String topic) {
        byte[] nothing = null, raw = new byte[255];
        for (int b = 0, i = 0; b < 256; b++)
            if (b != '\n')
                raw[i++] = (byte) b;
        List<Header> headers = List.of(new RecordHeader("trace", utf8("1")), new RecordHeader("trace", utf8("2")),
            new RecordHeader("empty", new byte[0]), new RecordHeader("null", null), new RecordHeader("š", raw));
        long at = EPOCH_MS + 5000;
        return List.of(
            new ProducerRecord<>(topic, 0, at, utf8("tombstone"), nothing),
            new ProducerRecord<>(topic, 0, at - 3000, utf8("empty value"), new byte[0]),
            new ProducerRecord<>(topic, 0, at + 1, new byte[0], utf8("empty key")),
            new ProducerRecord<>(topic, 0, at + 2, nothing, nothing),
            new ProducerRecord<>(topic, 0, at + 3, utf8("klíč"), utf8("Příliš žluťoučký kůň 馬 🐎")),
            new ProducerRecord<>(topic, 0, at + 4, raw, raw),
            new ProducerRecord<>(topic, 0, at + 5, utf8("with headers"), utf8("headers"), headers),
            new ProducerRecord<>(topic, 0, at - 1, utf8("tombstone with headers"), null, headers));
    }

    /** Values that are not lines. */
    static void binary() throws Exception {
        create("binary", 1);
        try (Producer<byte[], byte[]> producer = producer("compression.type", "lz4")) {
            List<String> values = List.of("two\nlines", "\n", "ends in a newline\n", "\0", "nul \0 inside", "\r\n",
                "last");
            batch(producer, values.size(), i -> record("binary", 0, null, values.get(i)));
        }
    }

    /** Six partitions of which three are written to. */
    static void spread() throws Exception {
        create("spread", 6);
        try (Producer<byte[], byte[]> producer = producer()) {
            for (int round = 0; round < 4; round++)
                for (int partition : List.of(5, 0, 2)) {
                    String line = "partition " + partition + " round " + round + " line ";
                    batch(producer, 3 + partition, i -> record("spread", partition, null, line + i));
                }
        }
    }

    /** Several segments; every seventh batch is older than the one before it, so time index entries are left out. */
    static void segments() throws Exception {
        create("segments", 1);
        lines("segments", 130);
    }

    static void lines(String topic, int batches) {
        try (Producer<byte[], byte[]> producer = producer()) {
            for (int n = 0; n < batches; n++) {
                long at = EPOCH_MS + n * 1000L - (n % 7 == 6 ? 5000 : 0);
                String line = topic + " batch " + n + " ";
                batch(producer, 3, i -> new ProducerRecord<>(topic, 0, at + i, null, utf8(line + prose(i, 120))));
            }
        }
    }

    /** Log start in the middle of a batch in the middle of a segment; the deleted segments are not yet removed. */
    static void deletedHead() throws Exception {
        create("deleted-head", 1, "file.delete.delay.ms", "3600000");
        lines("deleted-head", 90);
        RecordsToDelete below = RecordsToDelete.beforeOffset(151);
        admin.deleteRecords(Map.of(new TopicPartition("deleted-head", 0), below)).all().get();
    }

    /** Retention will delete whole segments. */
    static void retained() throws Exception {
        create("retained", 1, "retention.bytes", "20000", "file.delete.delay.ms", "100");
        lines("retained", 90);
    }

    static void configured() throws Exception {
        create("configured", 2, "retention.ms", "31536000000000", "max.message.bytes", "200000",
            "compression.type", "zstd", "message.timestamp.type", "LogAppendTime");
        for (String codec : List.of("none", "gzip"))      // the broker compresses again
            try (Producer<byte[], byte[]> producer = producer("compression.type", codec)) {
                for (int partition = 0; partition < 2; partition++) {
                    int p = partition;
                    batch(producer, 20, i -> record("configured", p, "k" + i, codec + " " + prose(i, 90)));
                }
            }
        configure("configured", AlterConfigOp.OpType.SET, "segment.ms", "86400000");
        configure("configured", AlterConfigOp.OpType.SET, "retention.bytes", "1000000000");
        configure("configured", AlterConfigOp.OpType.DELETE, "segment.ms", null);
    }

    /** Old values for the cleaner, tombstones that it must keep for a while, and last batches that it must not drop. */
    static void compacted() throws Exception {
        create("compacted", 1, "cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0.001");
        for (int round = 0; round < 25; round++)
            try (Producer<byte[], byte[]> producer = producer("compression.type", round % 2 == 0 ? "none" : "lz4")) {
                int r = round;
                batch(producer, 12, i -> record("compacted", 0, "key " + (i * (r + 1)) % 17, r + " " + prose(i, 200)));
                batch(producer, 2, i -> record("compacted", 0, "round " + (r + i), r + " kept if even"));
                if (r % 5 == 4)
                    batch(producer, 2, i -> new ProducerRecord<>("compacted", 0, utf8("round " + (r - 2 - i)), null));
            }
        Producer<byte[], byte[]> aborted = transactional("compacted");
        aborted.beginTransaction();
        batch(aborted, 3, i -> record("compacted", 0, "key " + i, "of an aborted transaction"));
        aborted.abortTransaction();
        try (Producer<byte[], byte[]> producer = producer()) {
            for (int round = 0; round < 10; round++)
                batch(producer, 12, i -> record("compacted", 0, "key " + (i + 3), "at last " + prose(i, 150)));
        }
    }

    /** A consumer group that has read and committed, by the classic protocol or by that of KIP-848. */
    static void group(String protocol) {
        String group = "readers-" + protocol;
        try (Consumer<byte[], byte[]> consumer = consumer("group.id", group, "group.protocol", protocol)) {
            consumer.subscribe(List.of("spread"));
            for (int read = 0; read < 40; read += consumer.poll(Duration.ofSeconds(1)).count());
            consumer.commitSync();
            consumer.commitSync(Map.of(new TopicPartition("codec-none", 0), new OffsetAndMetadata(7, "by hand")));
        }
    }

    /** Committed and aborted, one inside another, over several segments, between records of no transaction. */
    static void transactions() throws Exception {
        create("txn", 2);
        Producer<byte[], byte[]> plain = producer();
        Producer<byte[], byte[]> one = transactional("one"), two = transactional("two"), slow = transactional("slow");
        for (int round = 0; round < 24; round++) {
            String name = "round " + round + " ";
            if (round % 12 == 3) {
                slow.beginTransaction();
                say(slow, "txn", 0, name + "slow begins, aborted later");
            }
            one.beginTransaction();
            two.beginTransaction();
            say(one, "txn", 0, name + "one, committed");
            say(two, "txn", 0, name + "two, aborted every third time");
            say(plain, "txn", 0, name + "plain in between");
            say(one, "txn", 1, name + "one, committed, other partition");
            say(two, "txn", 0, name + "two again");
            if (round == 5)
                one.sendOffsetsToTransaction(Map.of(new TopicPartition("spread", 0), new OffsetAndMetadata(round)),
                    new ConsumerGroupMetadata("copiers"));
            if (round % 3 == 2)
                two.abortTransaction();
            one.commitTransaction();
            if (round % 3 != 2)
                two.commitTransaction();
            if (round % 12 == 9) {
                say(slow, "txn", 0, name + "slow ends");
                slow.abortTransaction();
            }
            say(plain, "txn", 1, name + "plain");
        }
    }

    /**
     * Transactions that have no marker: decided ones (the coordinator knows, the partition does not) and an open one.
     * Between the two lines of dialogue the caller makes the broker unable to reach itself, so markers stay unwritten.
     */
    static void undecided() throws Exception {
        create("txn-decided", 2);
        create("txn-open", 1);
        Producer<byte[], byte[]> plain = producer();
        Producer<byte[], byte[]> commits = transactional("commits"), aborts = transactional("aborts"),
            stays = transactional("stays open"), short_ = transactional("short");
        for (String topic : List.of("txn-decided", "txn-open"))
            say(plain, topic, 0, "before");
        for (Producer<byte[], byte[]> each : List.of(commits, aborts, stays, short_))
            each.beginTransaction();
        say(commits, "txn-decided", 0, "decided: to be committed");
        say(commits, "txn-decided", 1, "decided: to be committed");
        say(aborts, "txn-decided", 0, "decided: to be aborted");
        say(stays, "txn-open", 0, "of an open transaction");
        say(short_, "txn-open", 0, "committed behind an open transaction");
        short_.commitTransaction();
        say(stays, "txn-open", 0, "of an open transaction, again");
        for (String topic : List.of("txn-decided", "txn-open"))
            say(plain, topic, 0, "after");
        await("the short one is committed", () -> TransactionState.COMPLETE_COMMIT
            == admin.describeTransactions(List.of("short")).description("short").get().state());
        System.out.println("cut");
        System.out.flush();
        System.in.read();
        commits.commitTransaction();
        aborts.abortTransaction();
    }

    static void complete() throws Exception {
        admin.fenceProducers(List.of("stays open")).all().get();
        List<TopicPartition> partitions = partitions(List.of("txn-decided", "txn-open"));
        try (Consumer<byte[], byte[]> all = consumer();
             Consumer<byte[], byte[]> stable = consumer("isolation.level", "read_committed")) {
            await("all is decided", () -> all.endOffsets(partitions).equals(stable.endOffsets(partitions)));
        }
    }

    static void fillSmall() throws Exception {
        create("small", 1, "segment.ms", "3600000", "index.interval.bytes", "512");
        for (int segment = 0; segment < 2; segment++)     // a jump in time begins a new segment
            try (Producer<byte[], byte[]> producer = producer()) {
                for (int n = 0; n < 20; n++) {
                    long at = EPOCH_MS + segment * 7_200_000L + n * 1000L;
                    String line = "segment " + segment + " batch " + n + " line ";
                    batch(producer, 2, i -> new ProducerRecord<>("small", 0, at + i, null, utf8(line + i)));
                }
            }
    }

    // What is in it

    static void expect(String isolation, Path file, List<String> topics) throws Exception {
        ObjectMapper json = new ObjectMapper();
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>(consume(isolation, topics));
        records.sort(Comparator.<ConsumerRecord<byte[], byte[]>, String>comparing(ConsumerRecord::topic)
            .thenComparing(ConsumerRecord::partition).thenComparing(ConsumerRecord::offset));
        try (PrintWriter out = new PrintWriter(Files.newBufferedWriter(file))) {
            for (ConsumerRecord<byte[], byte[]> record : records) {
                Map<String, Object> line = new LinkedHashMap<>();
                line.put("topic", record.topic());
                line.put("partition", record.partition());
                line.put("offset", record.offset());
                line.put("timestamp", record.timestamp());
                line.put("key", base64(record.key()));
                line.put("headers", Stream.of(record.headers().toArray())
                    .map(header -> Arrays.asList(header.key(), base64(header.value()))).toList());
                line.put("value", base64(record.value()));
                out.println(json.writeValueAsString(line));
            }
        }
    }

    static List<ConsumerRecord<byte[], byte[]>> consume(String isolation, List<String> topics) throws Exception {
        List<TopicPartition> partitions = partitions(topics);
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        try (Consumer<byte[], byte[]> consumer = consumer("isolation.level", isolation)) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition)))
                consumer.poll(Duration.ofMillis(100)).forEach(records::add);
        }
        return records;
    }

    static List<TopicPartition> partitions(List<String> topics) throws Exception {
        return admin.describeTopics(topics).allTopicNames().get().values().stream()
            .flatMap(topic -> topic.partitions().stream().map(p -> new TopicPartition(topic.name(), p.partition())))
            .toList();
    }

    static long earliest(String topic) throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        return admin.listOffsets(Map.of(partition, OffsetSpec.earliest())).partitionResult(partition).get().offset();
    }

    // Clients

    static Producer<byte[], byte[]> producer(String... properties) {
        Map<String, Object> all = properties("linger.ms", "60000", "batch.size", "1000000",
            "max.request.size", "2000000");
        all.putAll(properties(properties));
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static Producer<byte[], byte[]> transactional(String id) {
        Producer<byte[], byte[]> producer = producer("transactional.id", id, "transaction.timeout.ms", "900000");
        producer.initTransactions();
        return producer;
    }

    static Consumer<byte[], byte[]> consumer(String... properties) {
        Map<String, Object> all = properties("auto.offset.reset", "earliest", "enable.auto.commit", "false",
            "fetch.max.wait.ms", "50");
        all.putAll(properties(properties));
        return new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static Map<String, Object> properties(String... properties) {
        Map<String, Object> map = new HashMap<>(Map.of("bootstrap.servers", bootstrap));
        for (int i = 0; i < properties.length; i += 2)
            map.put(properties[i], properties[i + 1]);
        return map;
    }

    static void create(String topic, int partitions, String... configs) throws Exception {
        Map<String, String> map = new HashMap<>();
        for (int i = 0; i < configs.length; i += 2)
            map.put(configs[i], configs[i + 1]);
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(map))).all().get();
    }

    static void configure(String topic, AlterConfigOp.OpType how, String name, String value) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        AlterConfigOp change = new AlterConfigOp(new ConfigEntry(name, value), how);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
    }

    static void batch(Producer<byte[], byte[]> producer, int count,
                      IntFunction<ProducerRecord<byte[], byte[]>> record) {
        IntStream.range(0, count).mapToObj(record).forEach(producer::send);
        producer.flush();
    }

    /** One batch of two textual records, at the time it is. */
    static void say(Producer<byte[], byte[]> producer, String topic, int partition, String line) {
        batch(producer, 2, i -> new ProducerRecord<>(topic, partition, null,
            utf8(line + ", " + prose(i, 100 + 100 * i))));
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int partition, String key, String value) {
        return new ProducerRecord<>(topic, partition, EPOCH_MS, key == null ? null : utf8(key), utf8(value));
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static void await(String what, Condition condition) throws Exception {
        for (long deadline = System.nanoTime() + 60_000_000_000L; !condition.holds(); Thread.sleep(200))
            if (System.nanoTime() > deadline)
                throw new IllegalStateException("still waiting until " + what);
    }

    // Contents

    /** About `length` characters of text that any codec makes much smaller. */
    static String prose(int seed, int length) {
        String[] events = {"accepted from warehouse 7", "packed", "handed to the carrier", "delivered",
            "returned unopened"};
        StringBuilder text = new StringBuilder();
        for (int n = seed; text.length() < length; n++)
            text.append("order ").append(1000 + n % 97).append(' ').append(events[n % events.length]).append("; ");
        return text.substring(0, length);
    }

    /** Bytes that no codec makes smaller, without a newline. */
    static byte[] noise(int length) {
        byte[] bytes = new byte[length];
        new Random(length).nextBytes(bytes);
        for (int i = 0; i < length; i++)
            if (bytes[i] == '\n')
                bytes[i] = 0;
        return bytes;
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String base64(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }
}
