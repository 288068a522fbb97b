/* control: between brokers. What the controller tells them (who leads which partition, what is no longer theirs, what there is), and what they ask of it. Schemas of Apache Kafka 3.9, the last
 * with a controller over ZooKeeper.
 * One of the tables of messages: messages.h includes it, twice. */

#define FIELDS_leader_and_isr_request_partition(F, S) \
	F(S, string,      topic_name,            UNTIL(1), IGNORABLE) \
	F(S, int32,       partition_index,       ALWAYS) \
	F(S, int32,       controller_epoch,      ALWAYS) \
	F(S, int32,       leader,                ALWAYS) \
	F(S, int32,       leader_epoch,          ALWAYS) \
	F(S, list(int32), isr,                   ALWAYS) \
	F(S, int32,       partition_epoch,       ALWAYS) \
	F(S, list(int32), replicas,              ALWAYS) \
	F(S, list(int32), adding_replicas,       SINCE(3), IGNORABLE) \
	F(S, list(int32), removing_replicas,     SINCE(3), IGNORABLE) \
	F(S, bool,        is_new,                SINCE(1), IGNORABLE) \
	F(S, int8,        leader_recovery_state, SINCE(6))
#define FIELDS_leader_and_isr_request_topic(F, S) \
	F(S, string,                                  topic_name,       SINCE(2)) \
	F(S, uuid,                                    topic_id,         SINCE(5), IGNORABLE) \
	F(S, array(leader_and_isr_request_partition), partition_states, SINCE(2))
#define FIELDS_leader_and_isr_request_live_leader(F, S) \
	F(S, int32,  broker_id, ALWAYS) \
	F(S, string, host_name, ALWAYS) \
	F(S, int32,  port,      ALWAYS)
#define FIELDS_leader_and_isr_request(F, S) \
	F(S, int32,                                     controller_id,              ALWAYS) \
	F(S, bool,                                      is_k_raft_controller,       SINCE(7)) \
	F(S, int32,                                     controller_epoch,           ALWAYS) \
	F(S, int64,                                     broker_epoch,               SINCE(2), .def = -1, IGNORABLE) \
	F(S, int8,                                      type,                       SINCE(5)) \
	F(S, array(leader_and_isr_request_partition),   ungrouped_partition_states, UNTIL(1)) \
	F(S, array(leader_and_isr_request_topic),       topic_states,               SINCE(2)) \
	F(S, array(leader_and_isr_request_live_leader), live_leaders,               ALWAYS)
WIRE_STRUCT(leader_and_isr_request_partition)
WIRE_STRUCT(leader_and_isr_request_topic)
WIRE_STRUCT(leader_and_isr_request_live_leader)
WIRE_MESSAGE(leader_and_isr_request, 0, 7, 4)

#define FIELDS_leader_and_isr_response_partition(F, S) \
	F(S, string, topic_name,      UNTIL(4), IGNORABLE) \
	F(S, int32,  partition_index, ALWAYS) \
	F(S, int16,  error_code,      ALWAYS)
#define FIELDS_leader_and_isr_response_topic(F, S) \
	F(S, uuid,                                     topic_id,         SINCE(5)) \
	F(S, array(leader_and_isr_response_partition), partition_errors, SINCE(5))
#define FIELDS_leader_and_isr_response(F, S) \
	F(S, int16,                                    error_code,       ALWAYS) \
	F(S, array(leader_and_isr_response_partition), partition_errors, UNTIL(4)) \
	F(S, array(leader_and_isr_response_topic),     topics,           SINCE(5))
WIRE_STRUCT(leader_and_isr_response_partition)
WIRE_STRUCT(leader_and_isr_response_topic)
WIRE_MESSAGE(leader_and_isr_response, 0, 7, 4)

#define FIELDS_stop_replica_request_ungrouped(F, S) \
	F(S, string, topic_name,      UNTIL(0)) \
	F(S, int32,  partition_index, UNTIL(0))
#define FIELDS_stop_replica_request_topic(F, S) \
	F(S, string,      name,              BETWEEN(1, 2)) \
	F(S, list(int32), partition_indexes, BETWEEN(1, 2))
#define FIELDS_stop_replica_request_partition_state(F, S) \
	F(S, int32, partition_index,  SINCE(3)) \
	F(S, int32, leader_epoch,     SINCE(3), .def = -1) \
	F(S, bool,  delete_partition, SINCE(3)) \
	F(S, int8,  seal,             SINCE(3), .tagged = SINCE(3), .tag = WIRE_OWN_TAGS, IGNORABLE) /* nothing is stopped: STOP_SEALS, STOP_UNSEALS of cluster/control/brain.h */
#define FIELDS_stop_replica_request_topic_state(F, S) \
	F(S, string,                                      topic_name,       SINCE(3)) \
	F(S, array(stop_replica_request_partition_state), partition_states, SINCE(3))
#define FIELDS_stop_replica_request(F, S) \
	F(S, int32,                                   controller_id,        ALWAYS) \
	F(S, bool,                                    is_k_raft_controller, SINCE(4)) \
	F(S, int32,                                   controller_epoch,     ALWAYS) \
	F(S, int64,                                   broker_epoch,         SINCE(1), .def = -1, IGNORABLE) \
	F(S, bool,                                    delete_partitions,    UNTIL(2)) \
	F(S, array(stop_replica_request_ungrouped),   ungrouped_partitions, UNTIL(0)) \
	F(S, array(stop_replica_request_topic),       topics,               BETWEEN(1, 2)) \
	F(S, array(stop_replica_request_topic_state), topic_states,         SINCE(3))
WIRE_STRUCT(stop_replica_request_ungrouped)
WIRE_STRUCT(stop_replica_request_topic)
WIRE_STRUCT(stop_replica_request_partition_state)
WIRE_STRUCT(stop_replica_request_topic_state)
WIRE_MESSAGE(stop_replica_request, 0, 4, 2)

#define FIELDS_stop_replica_response_partition(F, S) \
	F(S, string, topic_name,      ALWAYS) \
	F(S, int32,  partition_index, ALWAYS) \
	F(S, int16,  error_code,      ALWAYS)
#define FIELDS_stop_replica_response(F, S) \
	F(S, int16,                                  error_code,       ALWAYS) \
	F(S, array(stop_replica_response_partition), partition_errors, ALWAYS)
WIRE_STRUCT(stop_replica_response_partition)
WIRE_MESSAGE(stop_replica_response, 0, 4, 2)

#define FIELDS_update_metadata_request_partition(F, S) \
	F(S, string,      topic_name,       UNTIL(4), IGNORABLE) \
	F(S, int32,       partition_index,  ALWAYS) \
	F(S, int32,       controller_epoch, ALWAYS) \
	F(S, int32,       leader,           ALWAYS) \
	F(S, int32,       leader_epoch,     ALWAYS) \
	F(S, list(int32), isr,              ALWAYS) \
	F(S, int32,       zk_version,       ALWAYS) \
	F(S, list(int32), replicas,         ALWAYS) \
	F(S, list(int32), offline_replicas, SINCE(4), IGNORABLE)
#define FIELDS_update_metadata_request_topic(F, S) \
	F(S, string,                                   topic_name,       SINCE(5)) \
	F(S, uuid,                                     topic_id,         SINCE(7), IGNORABLE) \
	F(S, array(update_metadata_request_partition), partition_states, SINCE(5))
#define FIELDS_update_metadata_request_endpoint(F, S) \
	F(S, int32,  port,              SINCE(1)) \
	F(S, string, host,              SINCE(1)) \
	F(S, string, listener,          SINCE(3), IGNORABLE) \
	F(S, int16,  security_protocol, SINCE(1))
#define FIELDS_update_metadata_request_broker(F, S) \
	F(S, int32,                                   id,        ALWAYS) \
	F(S, string,                                  v0_host,   UNTIL(0), IGNORABLE) \
	F(S, int32,                                   v0_port,   UNTIL(0), IGNORABLE) \
	F(S, array(update_metadata_request_endpoint), endpoints, SINCE(1), IGNORABLE) \
	F(S, string,                                  rack,      SINCE(2), .nullable = ALWAYS, IGNORABLE)
#define FIELDS_update_metadata_request(F, S) \
	F(S, int32,                                    controller_id,              ALWAYS) \
	F(S, bool,                                     is_k_raft_controller,       SINCE(8)) \
	F(S, int8,                                     type,                       SINCE(8), .tagged = SINCE(8), .tag = 0) \
	F(S, int32,                                    controller_epoch,           ALWAYS) \
	F(S, int64,                                    broker_epoch,               SINCE(5), .def = -1, IGNORABLE) \
	F(S, array(update_metadata_request_partition), ungrouped_partition_states, UNTIL(4)) \
	F(S, array(update_metadata_request_topic),     topic_states,               SINCE(5)) \
	F(S, array(update_metadata_request_broker),    live_brokers,               ALWAYS)
WIRE_STRUCT(update_metadata_request_partition)
WIRE_STRUCT(update_metadata_request_topic)
WIRE_STRUCT(update_metadata_request_endpoint)
WIRE_STRUCT(update_metadata_request_broker)
WIRE_MESSAGE(update_metadata_request, 0, 8, 6)

#define FIELDS_update_metadata_response(F, S) \
	F(S, int16, error_code, ALWAYS)
WIRE_MESSAGE(update_metadata_response, 0, 8, 6)

#define FIELDS_controlled_shutdown_request(F, S) \
	F(S, int32, broker_id,    ALWAYS) \
	F(S, int64, broker_epoch, SINCE(2), .def = -1, IGNORABLE)
WIRE_MESSAGE(controlled_shutdown_request, 0, 3, 3)

#define FIELDS_controlled_shutdown_response_partition(F, S) \
	F(S, string, topic_name,      ALWAYS) \
	F(S, int32,  partition_index, ALWAYS)
#define FIELDS_controlled_shutdown_response(F, S) \
	F(S, int16,                                        error_code,           ALWAYS) \
	F(S, array(controlled_shutdown_response_partition), remaining_partitions, ALWAYS)
WIRE_STRUCT(controlled_shutdown_response_partition)
WIRE_MESSAGE(controlled_shutdown_response, 0, 3, 3)

#define FIELDS_alter_partition_request_broker(F, S) \
	F(S, int32, broker_id,    SINCE(3)) \
	F(S, int64, broker_epoch, SINCE(3), .def = -1)
#define FIELDS_alter_partition_request_partition(F, S) \
	F(S, int32,                                partition_index,       ALWAYS) \
	F(S, int32,                                leader_epoch,          ALWAYS) \
	F(S, list(int32),                          new_isr,               UNTIL(2)) \
	F(S, array(alter_partition_request_broker), new_isr_with_epochs,   SINCE(3)) \
	F(S, int8,                                 leader_recovery_state, SINCE(1)) \
	F(S, int32,                                partition_epoch,       ALWAYS)
#define FIELDS_alter_partition_request_topic(F, S) \
	F(S, string,                                  topic_name, UNTIL(1), IGNORABLE) \
	F(S, uuid,                                    topic_id,   SINCE(2), IGNORABLE) \
	F(S, array(alter_partition_request_partition), partitions, ALWAYS)
#define FIELDS_alter_partition_request(F, S) \
	F(S, int32,                               broker_id,    ALWAYS) \
	F(S, int64,                               broker_epoch, ALWAYS, .def = -1) \
	F(S, array(alter_partition_request_topic), topics,       ALWAYS)
WIRE_STRUCT(alter_partition_request_broker)
WIRE_STRUCT(alter_partition_request_partition)
WIRE_STRUCT(alter_partition_request_topic)
WIRE_MESSAGE(alter_partition_request, 0, 3, 0)

#define FIELDS_alter_partition_response_partition(F, S) \
	F(S, int32,       partition_index,       ALWAYS) \
	F(S, int16,       error_code,            ALWAYS) \
	F(S, int32,       leader_id,             ALWAYS) \
	F(S, int32,       leader_epoch,          ALWAYS) \
	F(S, list(int32), isr,                   ALWAYS) \
	F(S, int8,        leader_recovery_state, SINCE(1), IGNORABLE) \
	F(S, int32,       partition_epoch,       ALWAYS)
#define FIELDS_alter_partition_response_topic(F, S) \
	F(S, string,                                   topic_name, UNTIL(1), IGNORABLE) \
	F(S, uuid,                                     topic_id,   SINCE(2), IGNORABLE) \
	F(S, array(alter_partition_response_partition), partitions, ALWAYS)
#define FIELDS_alter_partition_response(F, S) \
	F(S, int32,                                throttle_time_ms, ALWAYS) \
	F(S, int16,                                error_code,       ALWAYS) \
	F(S, array(alter_partition_response_topic), topics,           ALWAYS)
WIRE_STRUCT(alter_partition_response_partition)
WIRE_STRUCT(alter_partition_response_topic)
WIRE_MESSAGE(alter_partition_response, 0, 3, 0)
