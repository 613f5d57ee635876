// Runs one Kafka broker and controller in this JVM: formats the storage when it is new, then starts the server.
// Arguments: the path of server.properties and the cluster id.
final class KafkaNode {
    private KafkaNode() {}

    public static void main(String[] args) {
        Guard.watchParent();
        String properties = args[0];
        int status = kafka.tools.StorageTool.execute(
            new String[] {"format", "--ignore-formatted", "-t", args[1], "-c", properties}, System.out);
        if (status != 0) System.exit(status);
        kafka.Kafka.main(new String[] {properties});
    }
}
