import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.ApiVersionsResponseData;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.record.BaseRecords;
import org.apache.kafka.common.record.MemoryRecords;

/*
 * Writes what Kafka itself says of the wire, for test_wire_corpus.c: `java -cp JARS Wire.java messages|others|refused|others-refused|utf8|errors|apis [API KEY...]`.
 * tests/lib/record_wire.py runs it, with the jars of 4.1, and with those of 3.9 for the requests between brokers. The same Kafka writes the same bytes each time.
 *
 *   messages   NAME VERSION HEX JSON: a message that Kafka's own class encoded, and the values that its class then decoded from it: of every
 *              field, also those that the version does not have and which therefore have their default. Bytes and uuids are hex.
 *   refused    NAME FIELD set|null VERSION...: an otherwise empty message with this field (of one element of each array above it) set to something else than its
 *              default, or to null: the versions in which Kafka refuses to encode that
 *   others     the same of headers and of the records of __consumer_offsets; others-refused
 *   utf8       HEX HEX: bytes, and what they are once Kafka has read them as a string
 *   errors     CODE NAME RETRIABLE
 *   apis       KEY NAME MIN MAX: what a broker advertises (of a request between brokers: what there is); then for each version the header versions of request and response
 */
public class Wire {
    static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    static final HexFormat HEX = HexFormat.of();
    static final ObjectMapper JSON = new ObjectMapper();

    enum Fill { EMPTY, FULL, RANDOM }
    static final Fill[] FILLS = {Fill.EMPTY, Fill.FULL, Fill.RANDOM, Fill.RANDOM};

    static Random random;
    static Fill fill;

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "messages" -> {
                for (int i = 1; i < arguments.length; i++)
                    api(ApiMessageType.fromApiKey(Short.parseShort(arguments[i])));
            }
            case "others" -> {
                for (short v = 1; v <= 2; v++)
                    record("RequestHeader", v, RequestHeaderData.class, RequestHeaderData.SCHEMAS[v], null);
                for (short v = 0; v <= 1; v++)
                    record("ResponseHeader", v, ResponseHeaderData.class, ResponseHeaderData.SCHEMAS[v], null);
                key("OffsetCommitKey", "LegacyOffsetCommitKey", 0);
                key("OffsetCommitKey", "OffsetCommitKey", 1);
                key("GroupMetadataKey", "GroupMetadataKey", 2);
                value("OffsetCommitValue");
                value("GroupMetadataValue");
            }
            case "refused" -> {
                for (int i = 1; i < arguments.length; i++) {
                    ApiMessageType type = ApiMessageType.fromApiKey(Short.parseShort(arguments[i]));
                    refused(type.name + "Request", type.newRequest().getClass(), "", type.newRequest().getClass(), made -> made);
                    refused(type.name + "Response", type.newResponse().getClass(), "", type.newResponse().getClass(), made -> made);
                }
            }
            case "others-refused" -> {
                for (String name : List.of("OffsetCommitValue", "GroupMetadataValue"))
                    refused(name, group(name), "", group(name), made -> made);
            }
            case "utf8" -> utf8();
            case "errors" -> {
                for (Errors e : Errors.values())
                    OUT.println(e.code() + " " + e.name() + " " + (e.exception() instanceof RetriableException));
            }
            case "apis" -> {
                for (int i = 1; i < arguments.length; i++)
                    versions(ApiKeys.forId(Short.parseShort(arguments[i])));
            }
        }
        OUT.flush();
    }

    /* What only some releases have is looked for by name. */
    static void versions(ApiKeys api) throws Exception {
        short min = api.oldestVersion(), max = api.latestVersion();
        if (api.messageType.listeners().contains(ApiMessageType.ListenerType.BROKER)) {
            var advertised = (java.util.Optional<?>) ApiKeys.class.getMethod("toApiVersionForApiResponse", boolean.class, ApiMessageType.ListenerType.class)
                .invoke(api, false, ApiMessageType.ListenerType.BROKER);
            ApiVersionsResponseData.ApiVersion range = (ApiVersionsResponseData.ApiVersion) advertised.orElseThrow();
            min = range.minVersion();
            max = range.maxVersion();
        }
        OUT.print(api.id + " " + api.messageType.name + " " + min + " " + max);
        for (short v = api.oldestVersion(); v <= max; v++)
            OUT.print(" " + v + ":" + api.requestHeaderVersion(v) + ":" + api.responseHeaderVersion(v));
        OUT.println();
    }

    static void api(ApiMessageType type) throws Exception {
        for (short v = type.lowestSupportedVersion(); v <= type.highestSupportedVersion(true); v++) {
            record(type.name + "Request", v, type.newRequest().getClass(), type.requestSchemas()[v], null);
            record(type.name + "Response", v, type.newResponse().getClass(), type.responseSchemas()[v], null);
        }
    }

    @SuppressWarnings("unchecked")
    static Class<? extends ApiMessage> group(String name) throws Exception {
        return (Class<? extends ApiMessage>) Class.forName("org.apache.kafka.coordinator.group.generated." + name);
    }

    static void key(String name, String message, int version) throws Exception {
        record(name, (short) 0, group(message), (Schema) group(message).getField("SCHEMA_0").get(null), (short) version);
    }

    static void value(String name) throws Exception {
        Schema[] schemas = (Schema[]) group(name).getField("SCHEMAS").get(null);
        for (short v = 0; v < schemas.length; v++)
            record(name, v, group(name), schemas[v], v);
    }

    /* prefix: what stands in 2 bytes before the message and is its version to others, if anything. */
    static void record(String name, short version, Class<? extends Message> message, Schema schema, Short prefix) throws Exception {
        for (int i = 0; i < FILLS.length; i++) {
            random = new Random((name + version + "/" + i).hashCode());
            fill = FILLS[i];
            Message made = (Message) make(message, schema);
            ObjectSerializationCache cache = new ObjectSerializationCache();
            int size = made.size(cache, version);
            ByteBuffer bytes = ByteBuffer.allocate(size + (prefix == null ? 0 : 2));
            if (prefix != null)
                bytes.putShort(prefix);
            made.write(new ByteBufferAccessor(bytes), cache, version);
            if (bytes.hasRemaining())
                throw new IllegalStateException(name + " " + version + ": not as long as it said");
            bytes.position(prefix == null ? 0 : 2);
            Message read = message.getDeclaredConstructor().newInstance();
            read.read(new ByteBufferAccessor(bytes), version);
            OUT.println(name + " " + (prefix == null ? version : prefix) + " " + HEX.formatHex(bytes.array()) + " " + JSON.writeValueAsString(show(read)));
        }
    }

    /* A message with content in the fields that the version's schema has. */
    static Object make(Class<?> c, Schema schema) throws Exception {
        Object made = c.getDeclaredConstructor().newInstance();
        for (BoundField f : schema.fields()) {
            if (f.def.type instanceof TaggedFields tagged) {
                for (var t : fieldsOf(tagged).values()) {
                    if (fill == Fill.FULL || fill == Fill.RANDOM && random.nextBoolean())
                        set(made, c, t.name, t.type);
                }
            } else {
                set(made, c, f.def.name, f.def.type);
            }
        }
        return made;
    }

    @SuppressWarnings("unchecked")
    static TreeMap<Integer, org.apache.kafka.common.protocol.types.Field> fieldsOf(TaggedFields tagged) throws Exception {
        Field fields = TaggedFields.class.getDeclaredField("fields");
        fields.setAccessible(true);
        return new TreeMap<>((java.util.Map<Integer, org.apache.kafka.common.protocol.types.Field>) fields.get(tagged));
    }

    static String camel(String name) {
        StringBuilder s = new StringBuilder();
        for (int i = 0; i < name.length(); i++) {
            if (name.charAt(i) == '_' && i + 1 < name.length())
                s.append(Character.toUpperCase(name.charAt(++i)));
            else
                s.append(name.charAt(i));
        }
        return s.toString();
    }

    static void set(Object made, Class<?> c, String name, org.apache.kafka.common.protocol.types.Type type) throws Exception {
        Field f = field(c, name);
        f.setAccessible(true);
        boolean nothing = type.isNullable() && (fill == Fill.EMPTY || fill == Fill.RANDOM && random.nextInt(4) == 0);
        f.set(made, nothing ? null : content(f, type));
    }

    /* Kafka makes the schema's names from the fields' names, but digits and capitals get lost on the way. */
    static Field field(Class<?> c, String name) {
        String flat = name.replace("_", "").toLowerCase();
        for (Field f : c.getDeclaredFields()) {
            if (f.getName().toLowerCase().equals(flat))
                return f;
        }
        throw new IllegalStateException(c + " has no " + camel(name));
    }

    static int count(int most) {
        return fill == Fill.EMPTY ? 0 : fill == Fill.FULL ? 2 : random.nextInt(most + 1);
    }

    static Object content(Field f, org.apache.kafka.common.protocol.types.Type type) throws Exception {
        Class<?> c = f.getType();
        if (Collection.class.isAssignableFrom(c)) {
            var elementType = type.arrayElementType().orElseThrow();
            Class<?> element = elementType(f);
            Collection<Object> all = collection(f);
            boolean struct = elementType instanceof Schema;
            int n = count(struct ? 2 : random.nextInt(30) == 0 ? 140 : 3);
            for (int i = 0; i < n; i++)
                all.add(struct ? make(element, (Schema) elementType) : scalar(element));
            return all;
        }
        if (Message.class.isAssignableFrom(c))
            return make(c, (Schema) (type instanceof Schema ? type : schemaOf(c)));
        if (BaseRecords.class.isAssignableFrom(c))
            return MemoryRecords.readableRecords(ByteBuffer.wrap(bytes()));
        return scalar(c);
    }

    /* A nullable struct's type hides its schema; the class has it, the newest being the last. */
    static Schema schemaOf(Class<?> c) throws Exception {
        Schema[] all = (Schema[]) c.getField("SCHEMAS").get(null);
        return all[all.length - 1];
    }

    static byte[] bytes() {
        byte[] b = new byte[fill == Fill.EMPTY ? 0 : random.nextInt(random.nextInt(30) == 0 ? 200 : 6)];
        random.nextBytes(b);
        return b;
    }

    static Object scalar(Class<?> c) {
        long v = fill == Fill.EMPTY ? 0 : switch (random.nextInt(8)) {
            case 0 -> Long.MAX_VALUE;
            case 1 -> Long.MIN_VALUE;
            case 2 -> -1;
            default -> random.nextLong() >> random.nextInt(64);
        };
        if (c == String.class)
            return string();
        if (c == byte[].class)
            return bytes();
        if (c == ByteBuffer.class)
            return ByteBuffer.wrap(bytes());
        if (c == Uuid.class)
            return fill == Fill.EMPTY ? Uuid.ZERO_UUID : new Uuid(random.nextLong(), random.nextLong());
        if (c == boolean.class)
            return fill == Fill.FULL || v % 2 != 0;
        if (c == byte.class)
            return (byte) (v == Long.MAX_VALUE ? Byte.MAX_VALUE : v == Long.MIN_VALUE ? Byte.MIN_VALUE : v);
        if (c == short.class)
            return (short) (v == Long.MAX_VALUE ? Short.MAX_VALUE : v == Long.MIN_VALUE ? Short.MIN_VALUE : v);
        if (c == int.class || c == Integer.class)
            return (int) (v == Long.MAX_VALUE ? Integer.MAX_VALUE : v == Long.MIN_VALUE ? Integer.MIN_VALUE : v);
        if (c == long.class)
            return v;
        throw new IllegalStateException("no content for " + c);
    }

    static String string() {
        if (fill == Fill.EMPTY)
            return "";
        int n = random.nextInt(40) == 0 ? 120 + random.nextInt(20) : random.nextInt(9);
        String[] letters = {"a", "b", "k", "Q", "7", "-", "_", ".", "\u00fc", "\u20ac", "\ud83d\ude00"};
        StringBuilder s = new StringBuilder();
        while (n-- > 0)
            s.append(letters[random.nextInt(letters.length)]);
        return s.toString();
    }

    /* Every field of a class as JSON. */
    static JsonNode show(Object o) throws Exception {
        JsonNodeFactory j = JsonNodeFactory.instance;
        if (o == null)
            return j.nullNode();
        if (o instanceof Boolean b)
            return j.booleanNode(b);
        if (o instanceof Number n)
            return j.numberNode(n.longValue());
        if (o instanceof String s)
            return j.textNode(s);
        if (o instanceof byte[] b)
            return j.textNode(HEX.formatHex(b));
        if (o instanceof ByteBuffer b)
            return j.textNode(HEX.formatHex(b.array(), b.arrayOffset() + b.position(), b.arrayOffset() + b.limit()));
        if (o instanceof MemoryRecords r)
            return show(r.buffer());
        if (o instanceof Uuid u)
            return show(ByteBuffer.allocate(16).putLong(u.getMostSignificantBits()).putLong(u.getLeastSignificantBits()).array());
        if (o instanceof Collection<?> all) {
            ArrayNode array = j.arrayNode();
            for (Object element : all)
                array.add(show(element));
            return array;
        }
        ObjectNode object = j.objectNode();
        for (Field f : o.getClass().getDeclaredFields()) {
            if (internal(f))
                continue;
            f.setAccessible(true);
            object.set(f.getName(), show(f.get(o)));
        }
        return object;
    }

    interface Inside {
        Object of(Object message) throws Exception;
    }

    /* c: the class whose fields are tried; inside: makes the one instance of it within a new message. */
    static void refused(String name, Class<?> message, String path, Class<?> c, Inside inside) throws Exception {
        for (Field f : c.getDeclaredFields()) {
            if (internal(f))
                continue;
            f.setAccessible(true);
            if (!f.getType().isPrimitive())
                tried(name + " " + path + f.getName() + " null", message, inside, f, null);
            Class<?> struct = elementOf(f);
            if (struct == null) {
                tried(name + " " + path + f.getName() + " set", message, inside, f, () -> different(f));
            } else {
                Inside further = made -> {
                    Object one = struct.getDeclaredConstructor().newInstance();
                    f.set(inside.of(made), Collection.class.isAssignableFrom(f.getType()) ? filled(f, one) : one);
                    return one;
                };
                tried(name + " " + path + f.getName() + " set", message, made -> { further.of(made); return null; }, null, null);
                refused(name, message, path + f.getName() + ".", struct, further);
            }
        }
    }

    interface Value {
        Object get() throws Exception;
    }

    static void tried(String what, Class<?> message, Inside inside, Field f, Value value) throws Exception {
        StringBuilder versions = new StringBuilder();
        Message empty = (Message) message.getDeclaredConstructor().newInstance();
        for (short v = empty.lowestSupportedVersion(); v <= empty.highestSupportedVersion(); v++) {
            Message made = (Message) message.getDeclaredConstructor().newInstance();
            Object at = inside.of(made);
            if (f != null)
                f.set(at, value == null ? null : value.get());
            try {
                ObjectSerializationCache cache = new ObjectSerializationCache();
                made.write(new ByteBufferAccessor(ByteBuffer.allocate(made.size(cache, v))), cache, v);
            } catch (RuntimeException refused) {
                versions.append(" ").append(v);
            }
        }
        if (!versions.isEmpty())
            OUT.println(what + versions);
    }

    static boolean internal(Field f) {
        return Modifier.isStatic(f.getModifiers()) || f.getName().equals("_unknownTaggedFields") || f.getName().equals("prev") || f.getName().equals("next");
    }

    static Class<?> elementType(Field f) {
        Type generic = List.class.isAssignableFrom(f.getType()) ? f.getGenericType() : f.getType().getGenericSuperclass();
        return (Class<?>) ((ParameterizedType) generic).getActualTypeArguments()[0];
    }

    /* The struct that a field is, or is an array of. */
    static Class<?> elementOf(Field f) {
        Class<?> c = Collection.class.isAssignableFrom(f.getType()) ? elementType(f) : f.getType();
        return Message.class.isAssignableFrom(c) ? c : null;
    }

    @SuppressWarnings("unchecked")
    static Collection<Object> collection(Field f) throws Exception {
        return f.getType() == List.class ? new java.util.ArrayList<>() : (Collection<Object>) f.getType().getDeclaredConstructor().newInstance();
    }

    static Collection<Object> filled(Field f, Object one) throws Exception {
        Collection<Object> all = collection(f);
        all.add(one);
        return all;
    }

    /* No default is one of these. */
    static Object different(Field f) throws Exception {
        Class<?> c = f.getType();
        if (Collection.class.isAssignableFrom(c))
            return filled(f, elementType(f) == String.class ? "x" : elementType(f) == Integer.class ? 7 : null);
        if (BaseRecords.class.isAssignableFrom(c))
            return MemoryRecords.readableRecords(ByteBuffer.wrap(new byte[] {7}));
        if (c == String.class)
            return "x";
        if (c == byte[].class)
            return new byte[] {7};
        if (c == ByteBuffer.class)
            return ByteBuffer.wrap(new byte[] {7});
        if (c == Uuid.class)
            return new Uuid(7, 7);
        if (c == boolean.class) {
            Object fresh = f.getDeclaringClass().getDeclaredConstructor().newInstance();
            return !f.getBoolean(fresh);
        }
        return c == byte.class ? (Object) (byte) 7 : c == short.class ? (Object) (short) 7 : c == int.class ? (Object) 7 : (Object) 7L;
    }

    static void utf8() {
        int[] edges = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xf8, 0xff};
        random = new Random(8);
        for (int a : edges) {
            read(a);
            for (int b : edges)
                read(a, b);
        }
        for (int i = 0; i < 1500; i++) {
            int[] some = new int[3 + random.nextInt(5)];
            for (int k = 0; k < some.length; k++)
                some[k] = edges[random.nextInt(edges.length)];
            read(some);
        }
    }

    static void read(int... values) {
        ByteBuffer b = ByteBuffer.allocate(values.length);
        for (int v : values)
            b.put((byte) v);
        b.flip();
        String s = new ByteBufferAccessor(b).readString(values.length);
        OUT.println(HEX.formatHex(b.array()) + " " + HEX.formatHex(s.getBytes(StandardCharsets.UTF_8)));
    }
}
