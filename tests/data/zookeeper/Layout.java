import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.TimeUnit;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.*;
import org.apache.zookeeper.data.Stat;
import scala.jdk.javaapi.CollectionConverters;

/** Has a Kafka in ZooKeeper mode write its nodes (traffic), writes by Kafka's own code those that its brokers only read (encode), and says what Kafka's code reads in ours (decode). */
public class Layout {
    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "traffic" -> traffic(args[1]);
            case "encode" -> encode();
            case "decode" -> decode();
        }
    }

    static ClientQuotaAlteration quota(Map<String, String> entity, String name, double value) {
        return new ClientQuotaAlteration(new ClientQuotaEntity(entity), List.of(new ClientQuotaAlteration.Op(name, value)));
    }

    static AlterConfigOp set(String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
    }

    static void traffic(String bootstrap) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "request.timeout.ms", "20000");
        Map<Integer, List<Integer>> twelve = new TreeMap<>();
        for (int i = 0; i < 12; i++)
            twelve.put(i, List.of(1 + i % 3, 1 + (i + 1) % 3));
        try (Admin admin = Admin.create(settings)) {
            admin.createTopics(List.of(
                new NewTopic("one", Map.of(0, List.of(1))),
                new NewTopic("four", Map.of(0, List.of(1, 2), 1, List.of(2, 3), 2, List.of(3, 1), 3, List.of(1, 2))),
                new NewTopic("twelve", twelve).configs(Map.of("cleanup.policy", "compact", "retention.ms", "1000")),
                new NewTopic("gone", Map.of(0, List.of(1))))).all().get();
            admin.createPartitions(Map.of("one", NewPartitions.increaseTo(2, List.of(List.of(2))))).all().get();
            admin.incrementalAlterConfigs(Map.of(
                new ConfigResource(ConfigResource.Type.TOPIC, "one"), List.of(set("retention.ms", "86400000"), set("compression.type", "lz4")),
                new ConfigResource(ConfigResource.Type.BROKER, "1"), List.of(set("log.cleaner.threads", "2")),
                new ConfigResource(ConfigResource.Type.BROKER, ""), List.of(set("log.retention.ms", "1000000")))).all().get();
            Map<String, String> userClient = new LinkedHashMap<>();
            userClient.put("user", "al ice*/é");
            userClient.put("client-id", "c:1");
            admin.alterClientQuotas(List.of(
                quota(Map.of("user", "bob"), "producer_byte_rate", 1024),
                quota(Map.of("client-id", "a+b c"), "consumer_byte_rate", 2048),
                quota(userClient, "request_percentage", 50),
                quota(Map.of("ip", "127.0.0.1"), "connection_creation_rate", 10),
                quota(Collections.singletonMap("user", null), "producer_byte_rate", 4096))).all().get();
            admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion("bob", new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), "secret"))).all().get();
            Map<String, Object> producer = new HashMap<>(settings);
            producer.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
            producer.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
            try (KafkaProducer<String, String> p = new KafkaProducer<>(producer)) {
                for (int i = 0; i < 100; i++)
                    p.send(new ProducerRecord<>("four", i % 4, "k" + i, "v" + i));
            }
            admin.alterPartitionReassignments(Map.of(
                new TopicPartition("four", 0), Optional.of(new NewPartitionReassignment(List.of(3, 1))))).all().get();
            while (!admin.listPartitionReassignments().reassignments().get().isEmpty())
                TimeUnit.MILLISECONDS.sleep(50);
            admin.deleteTopics(List.of("gone")).all().get();
            TimeUnit.SECONDS.sleep(3);
        }
    }

    static void print(String path, byte[] data) {
        System.out.println(path + "\t" + new String(data, StandardCharsets.UTF_8));
    }

    static <K, V> scala.collection.immutable.Map<K, V> map(Map<K, V> of) {
        return scala.collection.immutable.Map.from(CollectionConverters.asScala(of));
    }

    static <T> scala.collection.immutable.Set<T> set(List<T> of) {
        return CollectionConverters.asScala(of).toSet();
    }

    static scala.collection.immutable.Seq<Object> seq(Integer... of) {
        return CollectionConverters.asScala(Arrays.<Object>asList((Object[]) of)).toSeq();
    }

    static void encode() {
        Map<TopicPartition, scala.collection.Seq<Object>> one = new LinkedHashMap<>();
        one.put(new TopicPartition("four", 3), seq(3, 1));
        one.put(new TopicPartition("t.x-y_z", 11), seq(2));
        print("/admin/reassign_partitions", kafka.zk.ReassignPartitionsZNode.encode(map(one)));
        print("/admin/preferred_replica_election", kafka.zk.PreferredReplicaElectionZNode.encode(set(new ArrayList<>(one.keySet()))));
        print("/isr_change_notification/isr_change_0000000007", kafka.zk.IsrChangeNotificationSequenceZNode.encode(set(new ArrayList<>(one.keySet()))));
        print("/log_dir_event_notification/log_dir_event_0000000003", kafka.zk.LogDirEventNotificationSequenceZNode.encode(2));
        var isr = CollectionConverters.asScala(List.of(new org.apache.kafka.common.message.AlterPartitionRequestData.BrokerState().setBrokerId(3))).toList();
        print("/brokers/topics/four/partitions/3/state", kafka.zk.TopicPartitionStateZNode.encode(new kafka.controller.LeaderIsrAndControllerEpoch(
            new kafka.api.LeaderAndIsr(3, 7, org.apache.kafka.metadata.LeaderRecoveryState.RECOVERING, isr, 9), 11)));
        print("/consumers/g/offsets/four/3", kafka.zk.ConsumerOffset.encode(1234567890123L));
        print("/controller_epoch", kafka.zk.ControllerEpochZNode.encode(2147483647));
        for (String path : List.of("/consumers", "/consumers/g", "/brokers/ids/1", "/config/users", "/config/users/bob", "/config/usersx", "/config/brokers/1", "/config/topics/t", "/config/clients/c",
                "/delegation_token/tokens", "/controller", "/"))
            System.out.println("acl\t" + path + "\t" + String.join(" ", CollectionConverters.asJava(kafka.zk.ZkData.defaultAcls(true, path)).stream().map(
                acl -> acl.getPerms() + ":" + acl.getId().getScheme() + ":" + acl.getId().getId()).toList()));
        System.out.println("paths\t" + kafka.zk.ZkData.PersistentZkPaths());
        for (String name : List.of("bob", "al ice*/é", "a+b c", "~x_.-", "%41", ":=;@"))
            System.out.println("escaped\t" + name + "\t" + org.apache.kafka.common.utils.Sanitizer.sanitize(name));
    }

    static void decode() {
        Scanner lines = new Scanner(System.in, StandardCharsets.UTF_8);
        while (lines.hasNextLine()) {
            String[] line = lines.nextLine().split("\t", 2);
            String path = line[0], name = path.substring(path.lastIndexOf('/') + 1);
            byte[] data = line[1].getBytes(StandardCharsets.UTF_8);
            Object said;
            if (path.startsWith("/brokers/ids/"))
                said = kafka.zk.BrokerIdZNode.decode(Integer.parseInt(name), data);
            else if (path.endsWith("/state")) {
                Stat stat = new Stat();
                said = kafka.zk.TopicPartitionStateZNode.decode(data, stat);
            } else if (path.startsWith("/brokers/topics/"))
                said = kafka.zk.TopicZNode.decode(name, data);
            else if (path.equals("/controller"))
                said = kafka.zk.ControllerZNode.decode(data);
            else if (path.equals("/controller_epoch"))
                said = kafka.zk.ControllerEpochZNode.decode(data);
            else if (path.equals("/cluster/id"))
                said = kafka.zk.ClusterIdZNode.fromJson(data);
            else if (path.equals("/latest_producer_id_block"))
                said = kafka.zk.ProducerIdBlockZNode.parseProducerIdBlockData(data);
            else if (path.startsWith("/config/changes/"))
                said = new String(data, StandardCharsets.UTF_8);
            else if (path.startsWith("/config/"))
                said = new TreeMap<>(kafka.zk.ConfigEntityZNode.decode(data));
            else if (path.equals("/admin/reassign_partitions"))
                said = kafka.zk.ReassignPartitionsZNode.decode(data);
            else if (path.equals("/admin/preferred_replica_election"))
                said = kafka.zk.PreferredReplicaElectionZNode.decode(data);
            else if (path.startsWith("/isr_change_notification/"))
                said = kafka.zk.IsrChangeNotificationSequenceZNode.decode(data);
            else if (path.startsWith("/log_dir_event_notification/"))
                said = kafka.zk.LogDirEventNotificationSequenceZNode.decode(data);
            else if (path.contains("/offsets/"))
                said = kafka.zk.ConsumerOffset.decode(data);
            else
                said = "?";
            System.out.println(path + "\t" + said);
        }
    }
}
