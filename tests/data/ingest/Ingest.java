import java.io.File;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.*;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.zip.CRC32C;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.*;
import org.apache.kafka.common.record.Record;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.requests.ProduceResponse.RecordError;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.server.storage.log.FetchIsolation;
import org.apache.kafka.server.util.KafkaScheduler;
import org.apache.kafka.storage.internals.log.*;
import org.apache.kafka.storage.log.metrics.BrokerTopicStats;

/**
 * What a Kafka log says to batches of clients.
 *
 *   Ingest batches     a line each: rule, version of Produce, the request's bytes, the error, the records with errors (or -), and what is in the log then:
 *                      attributes, greatest timestamp, base timestamp, last offset delta, producer id, epoch, sequence, CRC32C of all records in plain form
 *   Ingest sequences   a line each: producer id, epoch, sequence, records; the error, the first offset that is answered, the log append time. "reopen": a clean stop in between
 *
 * Rules have the numbers that tests/unit/test_ingest_corpus.c knows. The clock stands still at NOW.
 */
public class Ingest {
    static final long NOW = 1700000100000L;
    static final String[][] RULES = {
        {}, {"message.timestamp.type", "LogAppendTime"}, {"cleanup.policy", "compact"}, {"compression.type", "lz4"},
        {"compression.type", "zstd", "message.timestamp.type", "LogAppendTime"}, {"compression.type", "uncompressed"}, {"max.message.bytes", "250"},
        {"message.timestamp.before.max.ms", "100000", "message.timestamp.after.max.ms", "1000"}, {"compression.type", "gzip"}, {"compression.type", "snappy"},
    };
    static final Time CLOCK = new Time() {
        public long milliseconds() { return NOW; }
        public long nanoseconds() { return System.nanoTime(); }
        public void sleep(long ms) { }
        public void waitObject(Object obj, Supplier<Boolean> condition, long deadlineMs) { }
    };
    static final KafkaScheduler SCHEDULER = new KafkaScheduler(1);
    static final BrokerTopicStats STATS = new BrokerTopicStats();

    static UnifiedLog open(Path dir, String[] rule, boolean clean) throws Exception {
        Properties p = new Properties();
        for (int i = 0; i < rule.length; i += 2)
            p.put(rule[i], rule[i + 1]);
        return UnifiedLog.create(dir.toFile(), new LogConfig(p), 0, 0, SCHEDULER, STATS, CLOCK, 900000, new ProducerStateManagerConfig(86400000, true), 600000,
            new LogDirFailureChannel(1), clean, Optional.empty());
    }

    static void remove(Path dir) throws Exception {
        try (var files = Files.walk(dir)) {
            files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        }
    }

    static void put(ByteBuffer b, ByteBuffer bytes) {
        b.putInt(bytes == null ? -1 : bytes.remaining());
        if (bytes != null)
            b.put(bytes.duplicate());
    }

    static String stored(UnifiedLog log) throws Exception {
        RecordBatch batch = log.read(0, 1 << 20, FetchIsolation.LOG_END, true).records.batches().iterator().next();
        ByteBuffer plain = ByteBuffer.allocate(1 << 20);
        for (Record r : batch) {
            plain.putLong(r.offset()).putLong(r.timestamp());
            put(plain, r.key());
            put(plain, r.value());
            plain.putInt(r.headers().length);
            for (Header h : r.headers()) {
                put(plain, ByteBuffer.wrap(h.key().getBytes(StandardCharsets.ISO_8859_1)));
                put(plain, h.value() == null ? null : ByteBuffer.wrap(h.value()));
            }
        }
        CRC32C crc = new CRC32C();
        crc.update(plain.flip());
        int attributes = batch.compressionType().id | (batch.timestampType() == TimestampType.LOG_APPEND_TIME ? 8 : 0) | (batch.isTransactional() ? 16 : 0) |
            (batch.isControlBatch() ? 32 : 0);
        return String.format("%d %d %d %d %d %d %08x", attributes, batch.maxTimestamp(), batch.lastOffset(), batch.producerId(), batch.producerEpoch(), batch.baseSequence(), crc.getValue());
    }

    static void tell(int rule, int version, byte[] input) throws Exception {
        Path dir = Files.createTempDirectory("ingest-").resolve("t-0");
        UnifiedLog log = open(dir, RULES[rule], true);
        Errors error = Errors.NONE;
        String records = "-", out = "-";
        try {
            MemoryRecords r = MemoryRecords.readableRecords(ByteBuffer.wrap(input.clone()));
            ProduceRequest.validateRecords((short) version, r);
            log.appendAsLeader(r, 0);
            try {
                out = stored(log);
            } catch (Exception unreadable) {
                out = "unreadable";
            }
        } catch (RecordValidationException e) {
            error = Errors.forException(e.invalidException());
            StringJoiner indices = new StringJoiner(",");
            for (RecordError x : e.recordErrors())
                indices.add("" + x.batchIndex);
            records = indices.toString();
        } catch (Throwable e) {
            error = Errors.forException(e);
        }
        log.close();
        remove(dir.getParent());
        System.out.println(rule + " " + version + " " + HexFormat.of().formatHex(input) + " " + error + " " + records + " " + out);
    }

    static final long T = 1700000000000L;

    static byte[] bytes(MemoryRecords r) {
        byte[] b = new byte[r.sizeInBytes()];
        r.buffer().duplicate().get(b);
        return b;
    }

    static byte[] sample(int codec, Random random, boolean keys, long producer) {
        SimpleRecord[] r = new SimpleRecord[1 + random.nextInt(4)];
        for (int i = 0; i < r.length; i++) {
            Header[] headers = random.nextInt(3) == 0 ? new Header[] {new RecordHeader("h", new byte[] {1}), new RecordHeader("", null)} : new Header[0];
            byte[] key = keys || random.nextInt(2) == 0 ? new byte[random.nextInt(3)] : null, value = random.nextInt(4) == 0 ? null : new byte[random.nextInt(60)];
            if (value != null)
                Arrays.fill(value, (byte) random.nextInt());
            r[i] = new SimpleRecord(random.nextInt(20) == 0 ? -1 : T + random.nextInt(1000), key, value, headers);
        }
        Compression c = Compression.of(CompressionType.forId(codec)).build();
        return bytes(producer < 0 ? MemoryRecords.withRecords(c, r) : MemoryRecords.withIdempotentRecords(c, producer, (short) random.nextInt(3), random.nextInt(1000), r));
    }

    static void seal(byte[] b) {
        if (b.length < 61)
            return;
        ByteBuffer.wrap(b).putInt(8, b.length - 12);
        CRC32C crc = new CRC32C();
        crc.update(b, 21, b.length - 21);
        ByteBuffer.wrap(b).putInt(17, (int) crc.getValue());
    }

    static byte[] mutate(byte[] b, Random random) {
        ByteBuffer w = ByteBuffer.wrap(b);
        int at;
        switch (random.nextInt(9)) {
            case 0: // a header field becomes something odd
                int[] fields = {0, 16, 21, 23, 27, 35, 43, 51, 53, 57}, widths = {8, 1, 2, 4, 8, 8, 8, 2, 4, 4};
                int k = random.nextInt(fields.length);
                long[] odd = {0, -1, 1, 2, 8, 16, 32, 64, 5, Integer.MAX_VALUE, Integer.MIN_VALUE, Long.MAX_VALUE, Long.MIN_VALUE, NOW, random.nextInt(100)};
                long v = odd[random.nextInt(odd.length)];
                if (widths[k] == 8) w.putLong(fields[k], v);
                else if (widths[k] == 4) w.putInt(fields[k], (int) v);
                else if (widths[k] == 2) w.putShort(fields[k], (short) v);
                else w.put(fields[k], (byte) v);
                seal(b);
                return b;
            case 1: // the records
                at = 61 + random.nextInt(b.length - 61);
                b[at] ^= 1 << random.nextInt(8);
                seal(b);
                return b;
            case 2:
                at = 61 + random.nextInt(b.length - 61);
                b[at] = new byte[] {0, 1, 2, 127, -128, -1}[random.nextInt(6)];
                seal(b);
                return b;
            case 3: // the CRC does not fit
                at = 17 + random.nextInt(b.length - 17);
                b[at] ^= 1 << random.nextInt(8);
                return b;
            case 4:
                return Arrays.copyOf(b, random.nextInt(b.length));
            case 5: // something behind it
                byte[] more = Arrays.copyOf(b, b.length + random.nextInt(40));
                for (int i = b.length; i < more.length; i++)
                    more[i] = (byte) (random.nextBoolean() ? 0 : random.nextInt());
                return more;
            case 6:
                byte[] twice = Arrays.copyOf(b, 2 * b.length);
                System.arraycopy(b, 0, twice, b.length, b.length);
                return twice;
            case 7: // cut or longer, with a length that fits
                byte[] other = Arrays.copyOf(b, Math.max(61, b.length + random.nextInt(7) - 3));
                seal(other);
                return other;
            default: // the attributes' flags
                w.putShort(21, (short) (w.getShort(21) ^ (8 << random.nextInt(4))));
                seal(b);
                return b;
        }
    }

    static void batches() throws Exception {
        Random random = new Random(4711);
        for (int rule = 0; rule < RULES.length; rule++)
            for (int codec = 0; codec < 5; codec++) {
                for (int i = 0; i < 3; i++)
                    tell(rule, 9, sample(codec, random, rule == 2 && i > 0, i % 2 == 0 ? -1 : 77));
                tell(rule, 6, sample(codec, random, false, -1));
            }
        for (int i = 0; i < 3000; i++)
            tell(random.nextInt(3) == 0 ? random.nextInt(RULES.length) : 0, random.nextInt(4) == 0 ? 6 : 9, mutate(sample(random.nextInt(5) * random.nextInt(2), random, random.nextBoolean(), random.nextBoolean() ? -1 : 77), random));
    }

    static void sequences() throws Exception {
        Random random = new Random(12);
        Path dir = Files.createTempDirectory("ingest-").resolve("t-0");
        UnifiedLog log = open(dir, RULES[0], true);
        List<int[]> sent = new ArrayList<>();
        int[] epoch = new int[6], next = new int[6];
        Arrays.fill(next, Integer.MAX_VALUE - 60);
        for (int i = 0; i < 3000; i++) {
            if (random.nextInt(400) == 0) {
                log.close();
                log = open(dir, RULES[0], true);
                System.out.println("reopen");
            }
            int id = random.nextInt(6), e = epoch[id], count = 1 + random.nextInt(9), sequence = next[id];
            switch (random.nextInt(12)) {
                case 0: e = Math.max(0, e + random.nextInt(4) - 1); if (random.nextInt(3) > 0) sequence = 0; break;
                case 1: sequence = (sequence + random.nextInt(7) - 3) & Integer.MAX_VALUE; break;
                case 2: case 3: case 4:
                    if (!sent.isEmpty()) {
                        int[] s = sent.get(Math.max(0, sent.size() - 1 - random.nextInt(40)));
                        id = s[0]; e = s[1]; sequence = s[2]; count = s[3] + (random.nextInt(8) == 0 ? 1 : 0);
                    }
                    break;
                default:
            }
            SimpleRecord[] r = new SimpleRecord[count];
            for (int k = 0; k < count; k++)
                r[k] = new SimpleRecord(T + i, null, new byte[] {1});
            String said;
            try {
                LogAppendInfo info = log.appendAsLeader(MemoryRecords.withIdempotentRecords(Compression.NONE, id, (short) e, sequence, r), 0);
                said = "NONE " + info.firstOffset() + " " + info.logAppendTime();
                if (info.logAppendTime() < 0) {
                    sent.add(new int[] {id, e, sequence, count});
                    epoch[id] = e;
                    next[id] = (int) (((long) sequence + count) & Integer.MAX_VALUE);
                }
            } catch (Exception x) {
                said = Errors.forException(x) + " -1 -1";
            }
            System.out.println(id + " " + e + " " + sequence + " " + count + " " + (T + i) + " " + said);
        }
        log.close();
        remove(dir.getParent());
    }

    public static void main(String[] args) throws Exception {
        SCHEDULER.startup();
        if (args[0].equals("batches"))
            batches();
        else
            sequences();
        System.exit(0);
    }
}
