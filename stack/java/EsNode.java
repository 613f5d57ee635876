// Runs one Elasticsearch node in this JVM, from the server's jars on the class path.
// Arguments: home folder (config/, modules/, plugins/), data folder, log folder, then settings as name=value.
import java.lang.reflect.Method;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginBundle;
import org.elasticsearch.plugins.PluginsLoader;

final class EsNode {
    private EsNode() {}

    public static void main(String[] args) throws Exception {
        Guard.watchParent();
        Path home = Path.of(args[0]);
        Settings.Builder settings = Settings.builder()
            .put("path.home", home.toString())
            .put("path.data", args[1])
            .put("path.logs", args[2])
            .put("network.host", "127.0.0.1")
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            // The serial collector leaves garbage until memory is short: counted as used, it trips the circuit breaker.
            .put("indices.breaker.total.use_real_memory", false);
        for (int i = 3; i < args.length; i++) {
            int equals = args[i].indexOf('=');
            settings.put(args[i].substring(0, equals), args[i].substring(equals + 1));
        }
        Environment environment = new Environment(settings.build(), home.resolve("config"));
        LogConfigurator.configure(environment, true);
        PluginsLoader loader = PluginsLoader.createPluginsLoader(modules(home.resolve("modules")), Set.of(), Map.of(), false);
        Node node = new Node(environment, loader);
        CountDownLatch closed = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.prepareForClose();
                node.close();
                node.awaitClose(10, TimeUnit.SECONDS);
            } catch (Exception failed) {
                failed.printStackTrace();
            } finally {
                closed.countDown();
            }
        }));
        node.start();
        closed.await();
    }

    /** 8.x takes the folder alone, 9.x also a flag. */
    @SuppressWarnings("unchecked")
    private static Set<PluginBundle> modules(Path folder) throws Exception {
        for (Method method : PluginsLoader.class.getMethods()) {
            if (!method.getName().equals("loadModulesBundles")) continue;
            Object[] arguments = method.getParameterCount() == 1 ? new Object[] {folder} : new Object[] {folder, false};
            return (Set<PluginBundle>) method.invoke(null, arguments);
        }
        throw new IllegalStateException("this Elasticsearch has no PluginsLoader.loadModulesBundles");
    }
}
