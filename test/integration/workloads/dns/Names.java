// Names jvm|jndi NAME: the addresses that Java finds, one a line. InetAddress asks the C library; the
// provider of JNDI speaks DNS itself.
import java.net.InetAddress;
import java.util.Hashtable;
import javax.naming.directory.Attribute;
import javax.naming.directory.InitialDirContext;

public class Names {
  public static void main(String[] args) throws Exception {
    if (args[0].equals("jvm")) {
      for (InetAddress address : InetAddress.getAllByName(args[1])) {
        System.out.println(address.getHostAddress());
      }
      return;
    }
    Hashtable<String, String> environment = new Hashtable<>();
    environment.put("java.naming.factory.initial", "com.sun.jndi.dns.DnsContextFactory");
    environment.put("java.naming.provider.url", "dns:");
    InitialDirContext context = new InitialDirContext(environment);
    for (String type : new String[] {"A", "AAAA"}) {
      Attribute found = context.getAttributes(args[1], new String[] {type}).get(type);
      for (int i = 0; found != null && i < found.size(); ++i) {
        System.out.println(found.get(i));
      }
    }
  }
}
